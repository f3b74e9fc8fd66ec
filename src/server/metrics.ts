// What operators watch: requests, tokens, latencies, segments, memory by part, the queue.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { isTrained } from '../contract/index.ts';
import type { SessionMemory } from '../engines/engine.ts';
import type { ProbeOutcome } from '../engines/probe.ts';
import type { MemoryFigures, Runner } from '../engines/runner.ts';
import type { Gate } from './limits/gate.ts';
import { MEMORY_PARTS, Timings } from './timings.ts';

export type Outcome = 'stop' | 'length' | 'cancelled' | 'timeout' | 'error';

/** The metrics of one server. Each has its own registry, so that two servers do not mix. */
export class Metrics {
  readonly registry: Registry = new Registry();
  readonly requests: Counter<'route' | 'method' | 'status'>;
  readonly requestSeconds: Histogram<'route'>;
  readonly tokens: Counter<'kind'>;
  readonly generations: Counter<'outcome'>;
  readonly timings: Timings;
  readonly interToken: Histogram;
  /** Work of large requests, which threads do. */
  readonly large: Histogram<'work'>;
  readonly segments: Counter;
  readonly segmentTokens: Histogram;
  readonly #memories = new Map<object, SessionMemory>();

  constructor(runner: Runner, gate: Gate, model: string, probe?: ProbeOutcome) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    const info = new Gauge({
      name: 'lockstep_info',
      help: 'The contract and the engine that serve, as labels.',
      labelNames: ['model', 'engine', 'precision', 'policy', 'digest', 'trained'],
      registers,
    });
    info.set(
      {
        model,
        engine: runner.info.name,
        precision: runner.info.precision,
        policy: runner.contract.policy.name,
        digest: runner.contract.digest,
        trained: isTrained(runner.contract) ? 'yes' : 'no',
      },
      1,
    );
    if (probe !== undefined) {
      const told = new Gauge({
        name: 'lockstep_probe_milliseconds',
        help: 'What the probe took before the server opened, by what became of it.',
        labelNames: ['status'],
        registers,
      });
      told.set({ status: probe.status }, probe.milliseconds);
    }
    this.requests = new Counter({
      name: 'lockstep_http_requests_total',
      help: 'HTTP requests answered.',
      labelNames: ['route', 'method', 'status'],
      registers,
    });
    this.requestSeconds = new Histogram({
      name: 'lockstep_http_request_seconds',
      help: 'Seconds from the head of a request to the end of its answer.',
      labelNames: ['route'],
      buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300],
      registers,
    });
    this.tokens = new Counter({
      name: 'lockstep_tokens_total',
      help: 'Tokens, by kind: prompt and completion were run, cached were remembered.',
      labelNames: ['kind'],
      registers,
    });
    this.generations = new Counter({
      name: 'lockstep_generations_total',
      help: 'Generations ended, by outcome: stop, length, cancelled, timeout, error.',
      labelNames: ['outcome'],
      registers,
    });
    this.timings = new Timings(this.registry);
    this.interToken = new Histogram({
      name: 'lockstep_inter_token_seconds',
      help: 'Seconds between two generated tokens.',
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
      registers,
    });
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
      registers,
    });
    this.segmentTokens = new Histogram({
      name: 'lockstep_segment_tokens',
      help: 'Length of closed segments, in tokens.',
      buckets: [16, 32, 64, 128, 256, 512, 1024, 2048, 4096],
      registers,
    });
    new Gauge({
      name: 'lockstep_sessions',
      help: 'Sequences open in the engine.',
      registers,
      collect() {
        this.set(runner.sessions);
      },
    });
    new Gauge({
      name: 'lockstep_generations_active',
      help: 'Generations that hold a slot.',
      registers,
      collect() {
        this.set(gate.active);
      },
    });
    new Gauge({
      name: 'lockstep_queue_waiting',
      help: 'Requests that wait for a slot.',
      registers,
      collect() {
        this.set(gate.waiting);
      },
    });
    if (runner.memory !== undefined) this.#watchMemory(runner.memory);
    const memories = this.#memories;
    const sum = (part: keyof SessionMemory) => {
      let bytes = 0;
      for (const memory of memories.values()) bytes += memory[part];
      return bytes;
    };
    new Gauge({
      name: 'lockstep_session_bytes',
      help: 'Bytes that open sequences hold between steps, by part.',
      labelNames: ['part'],
      registers,
      collect() {
        for (const part of MEMORY_PARTS) this.set({ part }, sum(part));
      },
    });
    new Gauge({
      name: 'lockstep_full_attention_bytes',
      help: 'Bytes that a full-attention cache of the same tokens would hold.',
      registers,
      collect() {
        this.set(sum('fullAttention'));
      },
    });
  }

  /** How many large requests wait for a thread. */
  watchPool(pool: { readonly waiting: number }): void {
    new Gauge({
      name: 'lockstep_large_waiting',
      help: 'Large requests that wait for a worker thread.',
      registers: [this.registry],
      collect() {
        this.set(pool.waiting);
      },
    });
  }

  /** What the engine remembers of prompts. */
  #watchMemory(memory: MemoryFigures): void {
    const registers = [this.registry];
    const gauges: [name: string, help: string, value: () => number][] = [
      ['lockstep_prefix_bytes', 'Bytes of remembered states of prompts.', () => memory.bytes],
      ['lockstep_prefix_bytes_limit', 'Most bytes of them (--cache-bytes).', () => memory.limit],
      ['lockstep_prefix_states', 'Remembered states of prompts.', () => memory.states],
    ];
    for (const [name, help, value] of gauges) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    }
    new Counter({
      name: 'lockstep_prefix_lookups_total',
      help: 'Prompts that began at a remembered state (hit) or at none (miss).',
      labelNames: ['result'],
      registers,
      collect() {
        this.reset();
        this.inc({ result: 'hit' }, memory.hits);
        this.inc({ result: 'miss' }, memory.misses);
      },
    });
    new Counter({
      name: 'lockstep_prefix_evictions_total',
      help: 'Remembered states given up for room.',
      registers,
      collect() {
        this.reset();
        this.inc(memory.evictions);
      },
    });
  }

  /** Remember what a running generation holds; null when it has ended. */
  hold(owner: object, memory: SessionMemory | null): void {
    if (memory === null) this.#memories.delete(owner);
    else this.#memories.set(owner, memory);
  }
}
