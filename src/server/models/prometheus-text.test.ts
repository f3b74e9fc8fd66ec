// Two engines' texts as one, in both of Prometheus' formats.
import { expect, test } from 'vitest';
import { joinOpenMetrics, joinPrometheus } from './prometheus-text.ts';

const text = `# HELP vllm:runs_total Runs of "it" \\\\ more.
# TYPE vllm:runs_total counter
vllm:runs_total{replica="0"} 3
# TYPE vllm:runs_created gauge
vllm:runs_created{replica="0"} 1.7e9
# TYPE odd counter
odd 1
# TYPE lat histogram
lat_bucket{le="+Inf"} 2
lat_sum 0.5
lat_count 2
# TYPE old untyped
old NaN
bare_total{replica="0"} 4
`;

const two = ['a', 'b'].map((model) => ({ model, text }));

test('Prometheus: each family once, with its head', () => {
  const lines = joinPrometheus(two).split('\n');
  expect(lines.slice(0, 5)).toEqual([
    '# HELP vllm:runs_total Runs of "it" \\\\ more.',
    '# TYPE vllm:runs_total counter',
    'vllm:runs_total{replica="0",model="a"} 3',
    'vllm:runs_total{replica="0",model="b"} 3',
    '',
  ]);
  expect(lines.filter((line) => line.startsWith('# TYPE lat'))).toHaveLength(1);
});

test('OpenMetrics: counters by their bare name, no times of creation, a type for all', () => {
  const one = joinOpenMetrics(two.slice(0, 1));
  expect(one).toBe(`# HELP vllm:runs Runs of \\"it\\" \\\\ more.
# TYPE vllm:runs counter
vllm:runs_total{replica="0",model="a"} 3
# TYPE odd unknown
odd{model="a"} 1
# TYPE lat histogram
lat_bucket{le="+Inf",model="a"} 2
lat_sum{model="a"} 0.5
lat_count{model="a"} 2
# TYPE old unknown
old{model="a"} NaN
# TYPE bare_total unknown
bare_total{replica="0",model="a"} 4
`);
  expect(joinOpenMetrics(two).match(/^# TYPE/gm)).toHaveLength(5);
  expect(joinOpenMetrics([])).toBe('');
});
