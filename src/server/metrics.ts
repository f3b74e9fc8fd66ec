// What operators watch: requests, tokens, latencies, segments, memory by part, the queue; all but the first by model.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { isTrained } from '../contract/index.ts';
import type { SessionMemory } from '../engines/engine.ts';
import type { ProbeOutcome } from '../engines/probe.ts';
import type { PrefixCacheStats, Runner } from '../engines/runner.ts';
import { type ExemplarHistogram, exemplarHistogram } from './exemplars.ts';
import { MEMORY_PARTS, Timings } from './timings.ts';

export type Outcome = 'stop' | 'length' | 'cancelled' | 'timeout' | 'error';

/** A model as its metrics see it. */
export interface Watched {
  readonly name: string;
  readonly runner: Runner;
  readonly probe: ProbeOutcome | undefined;
  readonly context: {
    readonly queue: { readonly active: number; readonly waiting: number; readonly refused: number };
  };
}

/** What SIGHUP reads again. */
export type Reloaded = 'keys' | 'tls' | 'models' | 'audit';
const RELOADED: readonly Reloaded[] = ['keys', 'tls', 'models', 'audit'];

interface RunningSession {
  model: string;
  memory: SessionMemory;
}

/** The metrics of one server. Each has its own registry, so that two servers do not mix. */
export class Metrics {
  readonly registry: Registry = new Registry();
  readonly requests: Counter<'route' | 'method' | 'status'>;
  readonly requestSeconds: ExemplarHistogram<'route'>;
  readonly tokens: Counter<'model' | 'kind'>;
  readonly generations: Counter<'model' | 'outcome'>;
  readonly timings: Timings;
  /** Work of large requests, which threads do. */
  readonly large: Histogram<'work'>;
  readonly segments: Counter<'model'>;
  readonly segmentTokens: Histogram<'model'>;
  readonly #reloadFailed: Counter<'what'>;
  readonly #stale: Gauge<'what'>;
  readonly #sessions = new Map<object, RunningSession>();
  /** Models that run; two of one name where one replaces the other. */
  readonly #watched = new Set<Watched>();
  /** Names of models that were ever watched. */
  readonly #known = new Set<string>();

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#watchEngines();
    this.requests = new Counter({
      name: 'lockstep_http_requests_total',
      help: 'HTTP requests answered.',
      labelNames: ['route', 'method', 'status'],
      registers,
    });
    this.requestSeconds = exemplarHistogram(
      this.registry,
      'lockstep_http_request_seconds',
      'Seconds from the head of a request to the end of its answer.',
      [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300],
      ['route'],
    );
    this.tokens = new Counter({
      name: 'lockstep_tokens_total',
      help: 'Tokens, by kind: prompt and completion were run, cached came from cached prompt states.',
      labelNames: ['model', 'kind'],
      registers,
    });
    this.generations = new Counter({
      name: 'lockstep_generations_total',
      help: 'Generations ended, by outcome: stop, length, cancelled, timeout, error.',
      labelNames: ['model', 'outcome'],
      registers,
    });
    this.timings = new Timings(this.registry);
    this.large = new Histogram({
      name: 'lockstep_large_request_seconds',
      help: 'Seconds that a worker thread took for the work of a large request: body, encode, tokenize, detokenize, plan.',
      labelNames: ['work'],
      buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60],
      registers,
    });
    this.segments = new Counter({
      name: 'lockstep_segments_closed_total',
      help: 'Segments closed at a boundary.',
      labelNames: ['model'],
      registers,
    });
    this.segmentTokens = new Histogram({
      name: 'lockstep_segment_tokens',
      help: 'Length of closed segments, in tokens.',
      labelNames: ['model'],
      buckets: [16, 32, 64, 128, 256, 512, 1024, 2048, 4096],
      registers,
    });
    this.#reloadFailed = new Counter({
      name: 'lockstep_reload_failed_total',
      help: 'Reloads (SIGHUP) that failed, by what could not be read: keys, tls, models, audit.',
      labelNames: ['what'],
      registers,
    });
    this.#stale = new Gauge({
      name: 'lockstep_reload_stale',
      help: '1 from a reload that failed to one that succeeds: what is used is older than the file.',
      labelNames: ['what'],
      registers,
    });
    // A first failure shows as an increase only where the series was there before.
    for (const what of RELOADED) {
      this.#reloadFailed.inc({ what }, 0);
      this.#stale.set({ what }, 0);
    }
    this.#watchQueues();
    this.#watchPrefixCaches();
    this.#watchSessions();
  }

  /** Tell of a model, which is served from now on. */
  watch(model: Watched): void {
    this.#watched.add(model);
    this.begin(model.name);
  }

  /** What is counted under this name begins at 0. */
  begin(name: string): void {
    if (this.#known.has(name)) return;
    this.#known.add(name);
    this.timings.begin(name);
    this.segments.inc({ model: name }, 0);
    this.segmentTokens.zero({ model: name });
  }

  /** It runs no longer; what was counted of it stays. */
  unwatch(model: Watched): void {
    this.#watched.delete(model);
  }

  /** Something was read again, or could not be. */
  reloaded(what: Reloaded, ok: boolean): void {
    if (!ok) this.#reloadFailed.inc({ what });
    this.#stale.set({ what }, ok ? 0 : 1);
  }

  /** What became of the lines of the audit log; null: there is none. */
  watchAudit(log: { readonly failed: number; readonly lost: number } | null): void {
    this.#total(
      'lockstep_audit_failed_total',
      'Writes to the audit log that failed; the lines wait in memory for the next that succeeds.',
      () => log?.failed ?? 0,
    );
    this.#total(
      'lockstep_audit_lost_total',
      'Lines of the audit log that were lost: too many waited.',
      () => log?.lost ?? 0,
    );
  }

  /** How many large requests wait for a thread, and how many were turned away. */
  watchPool(pool: { readonly waiting: number; readonly refused: number }): void {
    this.#total(
      'lockstep_large_refused_total',
      'Large requests refused with 429: as many as --max-queued-large-requests waited.',
      () => pool.refused,
    );
    new Gauge({
      name: 'lockstep_large_waiting',
      help: 'Large requests that wait for a worker thread.',
      registers: [this.registry],
      collect() {
        this.set(pool.waiting);
      },
    });
  }

  /** What a running generation holds; null when it has ended. */
  setSessionMemory(owner: object, model: string, memory: SessionMemory | null): void {
    if (memory === null) this.#sessions.delete(owner);
    else this.#sessions.set(owner, { model, memory });
  }

  /** A count that is kept elsewhere. */
  #total(name: string, help: string, value: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }

  /** Counts by model that are kept elsewhere. */
  #totals(name: string, help: string, values: () => Iterable<readonly [string, number]>): void {
    new Counter({
      name,
      help,
      labelNames: ['model'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [model, value] of values()) this.inc({ model }, value);
      },
    });
  }

  /** A gauge by model; values of one model are added up. */
  #gauge(name: string, help: string, values: () => Iterable<readonly [string, number]>): void {
    new Gauge({
      name,
      help,
      labelNames: ['model'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [model, value] of values()) this.inc({ model }, value);
      },
    });
  }

  #watchQueues(): void {
    const gauge = (name: string, help: string, value: (model: Watched) => number) =>
      this.#gauge(name, help, () => [...this.#watched].map((one) => [one.name, value(one)]));
    gauge('lockstep_sessions', 'Sequences open in the engine.', ({ runner }) => runner.sessions);
    gauge(
      'lockstep_generations_active',
      'Generations that hold a slot.',
      ({ context }) => context.queue.active,
    );
    gauge(
      'lockstep_queue_waiting',
      'Requests that wait for a slot.',
      ({ context }) => context.queue.waiting,
    );
    this.#totals(
      'lockstep_queue_refused_total',
      'Requests refused with 429 because the queue of the model was full.',
      () => [...this.#watched].map(({ name, context }) => [name, context.queue.refused]),
    );
  }

  #watchEngines(): void {
    const watched = this.#watched;
    new Gauge({
      name: 'lockstep_info',
      help: 'The contracts and the engines that serve, as labels.',
      labelNames: ['model', 'engine', 'precision', 'policy', 'digest', 'trained'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { name, runner } of watched) {
          const { info, contract } = runner;
          const labels = {
            model: name,
            engine: info.name,
            precision: info.precision,
            policy: contract.policy.name,
            digest: contract.digest,
            trained: isTrained(contract) ? 'yes' : 'no',
          };
          this.set(labels, 1);
        }
      },
    });
    new Gauge({
      name: 'lockstep_model_ready',
      help: '1 for a model that takes requests, 0 for one whose engine does not.',
      labelNames: ['model'],
      registers: [this.registry],
      collect() {
        this.reset();
        // Where one replaces another, the newer one is served.
        for (const { name, runner } of watched) {
          this.set({ model: name }, runner.health().ready ? 1 : 0);
        }
      },
    });
    new Gauge({
      name: 'lockstep_probe_milliseconds',
      help: 'Duration of the startup probe, by result.',
      labelNames: ['model', 'status'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { name, probe } of watched) {
          if (probe !== undefined) {
            this.set({ model: name, status: probe.status }, probe.milliseconds);
          }
        }
      },
    });
  }

  /** What running generations hold. */
  #watchSessions(): void {
    const sessions = this.#sessions;
    const watched = this.#watched;
    new Gauge({
      name: 'lockstep_session_bytes',
      help: 'Bytes that open sequences hold between steps, by part.',
      labelNames: ['model', 'part'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { name } of watched) {
          for (const part of MEMORY_PARTS) this.inc({ model: name, part }, 0);
        }
        for (const { model, memory } of sessions.values()) {
          for (const part of MEMORY_PARTS) this.inc({ model, part }, memory[part]);
        }
      },
    });
    this.#gauge(
      'lockstep_full_attention_bytes',
      'Bytes that a full-attention cache of the same tokens would hold.',
      () => [
        ...[...watched].map(({ name }) => [name, 0] as const),
        ...[...sessions.values()].map(
          ({ model, memory }) => [model, memory.fullAttention] as const,
        ),
      ],
    );
  }

  /** The prefix caches of engines. */
  #watchPrefixCaches(): void {
    const registers = [this.registry];
    const watched = this.#watched;
    const caches = (): [string, PrefixCacheStats][] =>
      [...watched].flatMap(({ name, runner }) =>
        runner.prefixCache === undefined ? [] : [[name, runner.prefixCache]],
      );
    const gauges: [name: string, help: string, value: (stats: PrefixCacheStats) => number][] = [
      ['lockstep_prefix_bytes', 'Bytes of cached prompt states.', (one) => one.bytes],
      [
        'lockstep_prefix_bytes_limit',
        'Limit for cached prompt states (--cache-bytes).',
        (one) => one.limit,
      ],
      ['lockstep_prefix_states', 'Cached prompt states.', (one) => one.states],
    ];
    for (const [name, help, value] of gauges) {
      this.#gauge(name, help, () => caches().map(([model, one]) => [model, value(one)]));
    }
    new Counter({
      name: 'lockstep_prefix_lookups_total',
      help: 'Prompts that began at a cached prompt state (hit) or at none (miss).',
      labelNames: ['model', 'result'],
      registers,
      collect() {
        this.reset();
        for (const [model, stats] of caches()) {
          this.inc({ model, result: 'hit' }, stats.hits);
          this.inc({ model, result: 'miss' }, stats.misses);
        }
      },
    });
    this.#totals('lockstep_prefix_evictions_total', 'Cached prompt states evicted.', () =>
      caches().map(([model, stats]) => [model, stats.evictions]),
    );
  }
}
