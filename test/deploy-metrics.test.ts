// The dashboard and the alerts ask only for what /metrics has.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython } from '../src/bridge/index.ts';
import { packageRoot } from '../src/paths.ts';
import { BatchStore } from '../src/server/index.ts';
import { AdmissionQueue } from '../src/server/limits/admission-queue.ts';
import { Metrics } from '../src/server/metrics.ts';
import { type Any, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const servers = toyServers(() => makeToy(null));

interface Query {
  where: string;
  expr: string;
}

const dashboard = JSON.parse(
  readFileSync(path.join(packageRoot, 'deploy/grafana/lockstep.json'), 'utf8'),
) as Any;
const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-deploy-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
let rules: Any[] = [];
let queries: Query[] = [];

beforeAll(async () => {
  const { executable } = await findPython();
  const file = path.join(packageRoot, 'deploy/alerts/lockstep.rules.yml');
  const read = 'import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))';
  const { groups } = JSON.parse(execFileSync(executable, ['-c', read, file], { encoding: 'utf8' }));
  rules = groups.flatMap((group: Any) => group.rules);
  queries = [
    ...rules.map((rule) => ({ where: rule.alert, expr: rule.expr })),
    ...dashboard.panels.flatMap((panel: Any) =>
      (panel.targets ?? []).map(({ expr }: Any) => ({ where: panel.title, expr })),
    ),
  ];
});

/** Labels that Prometheus adds, and one that stands in /metrics once a key's limit has refused something. */
const OF_PROMETHEUS = ['job', 'instance', 'le', 'limit'];
const WORDS = new Set(['and', 'or', 'unless', 'by', 'without', 'on', 'ignoring', 'offset', 'bool']);

/** Metrics and labels that a query names. */
function namesIn(expr: string): { metrics: string[]; labels: string[] } {
  const labels: string[] = [];
  const rest = expr
    .replace(/\{([^}]*)\}/g, (_, inside: string) => {
      for (const [, label] of inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) labels.push(label ?? '');
      return ' ';
    })
    .replace(/\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/g, (_, inside: string) => {
      labels.push(...inside.split(',').map((label) => label.trim()));
      return ' ';
    })
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\boffset\s+\w+/g, ' ');
  const metrics = [...rest.matchAll(/\b[a-zA-Z_:][\w:]*\b(?!\s*\()/g)]
    .map(([name]) => name)
    .filter((name) => !WORDS.has(name));
  return { metrics, labels };
}

/** Names of series that a text of /metrics tells of, and all labels in it. */
function seriesOf(text: string) {
  const names = new Set<string>();
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    const ends = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const end of ends) names.add(`${name}${end}`);
  }
  const labels = new Set([...text.matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  return { names, labels };
}

/** What an engine with a prefix cache adds to /metrics; the toy engine does not. */
function ofPrefixCache(): Promise<string> {
  const prefixCache = { bytes: 0, limit: 1, states: 0, hits: 0, misses: 0, evictions: 0 };
  const { contract } = servers.toy.files;
  const health = () => ({ ready: true, status: 'ready' });
  const info = { name: 'toy', precision: 'fp32' };
  const runner = { info, contract, sessions: 0, prefixCache, health };
  const metrics = new Metrics();
  metrics.watch({
    name: 'toy',
    runner: runner as never,
    probe: undefined,
    context: { queue: new AdmissionQueue(1, 1) },
  });
  return metrics.registry.metrics();
}

describe('queries', () => {
  test('the reader of queries finds names and labels', () => {
    const found = namesIn(
      'histogram_quantile(0.95, sum by (le, x) (rate(a_bucket{y=~"5..", z!="b"}[5m]))) > 1.5 * b offset 6h and on (w) c',
    );
    expect(found.metrics).toEqual(['a_bucket', 'b', 'c']);
    expect(found.labels.sort()).toEqual(['le', 'w', 'x', 'y', 'z']);
  });

  test('every query is PromQL', async () => {
    const { executable } = await findPython({ modules: ['promql_parser'] });
    const code = `import json, sys, promql_parser
wrong = []
for expr in json.load(sys.stdin):
    try:
        promql_parser.parse(expr)
    except ValueError as error:
        wrong.append([expr, str(error)])
print(json.dumps(wrong))`;
    const problems = (exprs: string[]): [string, string][] =>
      JSON.parse(
        execFileSync(executable, ['-c', code], { input: JSON.stringify(exprs), encoding: 'utf8' }),
      );
    const wrong = ['sum by (le (rate(a_bucket[5m])))', 'rate(a)', 'a > and b'];
    expect(problems(wrong).map(([expr]) => expr)).toEqual(wrong);
    // Grafana puts a duration there.
    const asked = queries.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m'));
    expect(problems(asked)).toEqual([]);
  });

  test('every metric and label of dashboard and alerts stands in /metrics', async () => {
    const probe = { status: 'passed', milliseconds: 1 } as Any;
    const batches = await BatchStore.open(folder);
    const { url, post } = await servers.serve({}, { probe, batches });
    await (await post('/v1/completions', { prompt: PROMPT, max_tokens: 3 })).text();
    await (await post('/lockstep/plan', { text: PROMPT.repeat(300) })).text();
    const own = await (await fetch(`${url}/metrics`)).text();
    const { names, labels } = seriesOf(own + (await ofPrefixCache()));
    expect(queries.length).toBeGreaterThan(40);
    for (const { where, expr } of queries) {
      const asked = namesIn(expr);
      expect(asked.metrics.length, where).toBeGreaterThan(0);
      for (const metric of asked.metrics) {
        if (metric === 'up') continue;
        expect(names, `${where}: ${metric}`).toContain(metric);
      }
      for (const label of asked.labels) {
        if (OF_PROMETHEUS.includes(label)) continue;
        expect(labels, `${where}: ${label}`).toContain(label);
      }
    }
  });

  test('every alert says what is wrong and what to do', () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { alert, for: wait, labels, annotations } of rules) {
      expect(['page', 'ticket', 'info'], alert).toContain(labels.severity);
      expect(wait, alert).toMatch(/^\d+[mh]$/);
      expect(annotations.summary.length, alert).toBeGreaterThan(20);
      expect(annotations.description.length, alert).toBeGreaterThan(20);
    }
  });

  test('panels have numbers and places of their own', () => {
    const panels = dashboard.panels as Any[];
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const taken = new Set<string>();
    for (const { gridPos, title } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.has(`${x},${y}`), title).toBe(false);
          taken.add(`${x},${y}`);
        }
      }
    }
  });
});
