// vLLM's own metrics and the plugin's, for `/metrics` and in short for the page.
import type { EngineMetrics } from '../runner.ts';
import type { Replica } from './replica.ts';

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Metrics of vLLM that are passed on, beside the plugin's. */
const PASSED =
  /^(lockstep_|vllm:(prefix_cache_(queries|hits)_total|num_preemptions_total|kv_cache_usage_perc|num_requests_(running|waiting)|(prompt|generation)_tokens_total)$)/;

/** Ask every replica; one that does not answer is left out and shown as not ready. */
export async function metricsOf(replicas: readonly Replica[]): Promise<EngineMetrics> {
  const told = await Promise.all(
    replicas.map(async (replica) => {
      const answer = await replica.get('/metrics').catch(() => null);
      return answer?.status === 200 ? answer.text : '';
    }),
  );
  const samples = told.flatMap((text, i) => samplesOf(text, String(i)));
  return { prometheus: written(told, samples), summary: summary(replicas, samples) };
}

/** Samples of Prometheus' text format; `replica` is added to their labels. */
export function samplesOf(text: string, replica: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)/.exec(line);
    if (found === null || !PASSED.test(found[1] as string)) return [];
    const labels: Record<string, string> = { replica };
    for (const [, name, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name as string] = value as string;
    }
    return [{ name: found[1] as string, labels, value: Number(found[3]) }];
  });
}

/**
 * The samples as text again. vLLM's names keep their colon; the plugin's get `lockstep_vllm_`, so that
 * none is one of this server's own.
 */
function written(told: readonly string[], samples: readonly Sample[]): string {
  const heads = new Map<string, string[]>();
  for (const line of told.flatMap((text) => text.split('\n'))) {
    const found = /^# (?:HELP|TYPE) (\S+)/.exec(line);
    if (found === null) continue;
    const lines = heads.get(found[1] as string) ?? [];
    if (!lines.some((other) => other.slice(0, 6) === line.slice(0, 6))) lines.push(line);
    heads.set(found[1] as string, lines);
  }
  const names = [...new Set(samples.map((sample) => sample.name))];
  return names
    .flatMap((name) => {
      const own = name.replace(/^lockstep_/, 'lockstep_vllm_');
      const head = heads.get(name) ?? [];
      return [
        ...head.map((line) => line.replace(/^(# \w+) \S+/, `$1 ${own}`)),
        ...samples
          .filter((sample) => sample.name === name)
          .map(({ labels, value }) => `${own}{${labelText(labels)}} ${value}`),
        '',
      ];
    })
    .join('\n');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(',');
}

function summary(replicas: readonly Replica[], samples: readonly Sample[]): object {
  const of = (name: string, label?: [string, string]) =>
    samples.filter(
      (one) => one.name === name && (label === undefined || one.labels[label[0]] === label[1]),
    );
  const total = (name: string, label?: [string, string]): number | null => {
    const found = of(name, label);
    return found.length === 0 ? null : found.reduce((sum, one) => sum + one.value, 0);
  };
  const groups = [...new Set(of('lockstep_kv_blocks').map((one) => one.labels['group'] ?? ''))];
  return {
    replicas: replicas.map(({ name, ready, running }) => ({ url: name, ready, running })),
    kv: {
      groups: groups.map((group) => ({
        group,
        blocks: total('lockstep_kv_blocks', ['group', group]),
      })),
      bytes: total('lockstep_kv_bytes'),
      bytesFull: total('lockstep_kv_bytes_full'),
    },
    requests: {
      running: total('vllm:num_requests_running'),
      waiting: total('vllm:num_requests_waiting'),
    },
    segments: total('lockstep_segments_total'),
    finished: total('lockstep_requests_total'),
    chunks: {
      boundary: total('lockstep_chunks_total', ['end', 'boundary']),
      prompt: total('lockstep_chunks_total', ['end', 'prompt']),
      budget: total('lockstep_chunks_total', ['end', 'budget']),
    },
    prefixCache: {
      queries: total('vllm:prefix_cache_queries_total'),
      hits: total('vllm:prefix_cache_hits_total'),
    },
    preemptions: total('vllm:num_preemptions_total'),
  };
}
