// One model that a server serves: an engine with its slots, a tokenizer, a contract, a chat template.
import path from 'node:path';
import type { Engine } from '../../engines/engine.ts';
import type { ProbeOutcome } from '../../engines/probe.ts';
import type { Health, Runner } from '../../engines/runner.ts';
import { steppedRunner } from '../../engines/stepped.ts';
import type { PlannerSource } from '../../planner/index.ts';
import type { TemplateLimits } from '../../template/template.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { ModelContext } from '../answers/answer.ts';
import { type Summary, summarize } from '../answers/contract.ts';
import type { WorkPool } from '../large/pool.ts';
import { encoderOf } from '../large/tokenizer.ts';
import { AdmissionQueue } from '../limits/admission-queue.ts';
import type { Bounds } from '../limits/bounds.ts';
import { boundsOf } from '../limits/bounds.ts';
import type { Metrics } from '../metrics.ts';
import { chatTemplate } from '../prompt/chat.ts';
import { inPool } from '../requests/body.ts';
import { limitOf, type Served } from '../routes/job.ts';

/** Default: some 30 states of a model of 135 million parameters, with S = 512. */
export const CACHE_BYTES = 512 * 1024 * 1024;

export interface ModelParts {
  /** Its name in requests and answers. */
  name: string;
  /** An engine, which is then stepped from here, or what runs by itself. */
  engine: Engine | Runner;
  tokenizer: Tokenizer;
  /** A checkpoint's contract and policy.js, as `readContract` believed them. */
  contract: PlannerSource;
  /** Most tokens of a sequence, prompt and completion together. */
  maxTokens?: number;
  /** Most generations at once. Each holds a session of the engine. */
  maxSessions?: number;
  /** Most bytes of the prefix cache of a stepped engine; 0 has none. */
  cacheBytes?: number;
  /** What became of the checkpoint's probe, for `/metrics`. */
  probe?: ProbeOutcome;
  /** Adapters over it that requests may name; each runs in the model's engine. */
  adapters?: readonly { name: string; runner: Runner }[];
}

/** What all models of a server share. */
export interface SharedParts
  extends Pick<ModelContext, 'accounts' | 'metrics' | 'log' | 'closing' | 'stream' | 'timeouts'> {
  metrics: Metrics;
  pool: WorkPool;
  /** Most requests that wait for a slot of one model. */
  maxQueue: number;
  maxBodyBytes: number;
  bounds: Partial<Bounds>;
  /** Limits of a chat template's process. */
  template: Partial<TemplateLimits>;
  /** Called when a model has an idle slot. */
  onIdle(): void;
}

export class ServedModel {
  readonly name: string;
  readonly served: Served;
  readonly context: ModelContext;
  readonly probe: ProbeOutcome | undefined;
  /** The model that this is an adapter over: slots, tokenizer and template are that one's. */
  readonly parent: ServedModel | null = null;
  readonly adapters: readonly ServedModel[] = [];
  /** Seconds since 1970. */
  readonly created = Math.floor(Date.now() / 1000);
  readonly #shared: SharedParts;
  readonly #kit: number;
  #requests = 0;
  #idle: (() => void)[] = [];
  #closed: Promise<void> | null = null;

  /** @throws LS_SERVE_DIGEST when engine and contract differ; LS_TEMPLATE_LIMIT */
  constructor(
    parts: ModelParts | { name: string; runner: Runner; parent: ServedModel },
    shared: SharedParts,
  ) {
    if ('parent' in parts) {
      const { name, runner, parent } = parts;
      this.name = name;
      this.parent = parent;
      this.#shared = shared;
      this.served = { ...parent.served, model: name };
      this.#kit = parent.kit;
      this.context = { ...parent.context, model: name, runner };
      shared.metrics.begin(name);
      return;
    }
    const { name, engine, tokenizer, contract, maxTokens = 32_768, maxSessions = 8 } = parts;
    const { cacheBytes = CACHE_BYTES } = parts;
    const runner =
      'run' in engine ? engine : steppedRunner(engine, tokenizer, contract, { cacheBytes });
    const bounds = boundsOf(shared.bounds, maxSessions);
    const { accounts, metrics, log, closing, stream, timeouts, pool } = shared;
    this.name = name;
    this.probe = parts.probe;
    this.#shared = shared;
    const template = chatTemplate(tokenizer, shared.template);
    this.served = { model: name, template, maxTokens, maxCompletion: bounds.maxCompletion };
    this.#kit = pool.add({
      dir: path.resolve(tokenizer.dir),
      tokenizer: tokenizer.sha256,
      source: { contract: contract.contract, policySource: contract.policySource },
    });
    this.context = {
      model: name,
      runner,
      tokenizer,
      encoder: (request, response) =>
        encoderOf(tokenizer, pool, this.#kit, (work) => inPool(request, response, timeouts, work)),
      source: contract,
      queue: new AdmissionQueue(maxSessions, shared.maxQueue, bounds.maxPerCaller),
      accounts,
      metrics,
      log,
      closing,
      stream,
      timeouts,
    };
    this.context.queue.onIdle = shared.onIdle;
    metrics.watch(this);
    const { adapters = [] } = parts;
    this.adapters = adapters.map((one) => new ServedModel({ ...one, parent: this }, shared));
  }

  get runner(): Runner {
    return this.context.runner;
  }

  /** Its tokenizer and planner in the threads for large requests. */
  get kit(): number {
    return this.#kit;
  }

  health(): Health {
    return this.runner.health();
  }

  /** Most tokens of a sequence: complete only once the engine has reported its own limit. */
  get maxTokens(): number {
    return limitOf(this.served, this.context);
  }

  /** What `/lockstep/contract` answers. */
  summary(): Summary {
    return summarize(
      this.name,
      this.context.source.contract,
      this.runner.info,
      {
        tokens: this.maxTokens,
        sessions: this.context.queue.slots,
        bodyBytes: this.#shared.maxBodyBytes,
      },
      this.served.template !== null,
    );
  }

  /** A request uses it, until the returned function is called. More calls are harmless. */
  hold(): () => void {
    if (this.parent !== null) return this.parent.hold();
    this.#requests += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#requests -= 1;
      if (this.#requests > 0) return;
      for (const tell of this.#idle.splice(0)) tell();
    };
  }

  /** Settles when no request uses it. */
  async idle(): Promise<void> {
    if (this.#requests > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Free the engine. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.context.queue.close();
      this.served.template?.close();
      this.#shared.pool.remove(this.#kit);
      await this.runner.close();
      this.#shared.metrics.unwatch(this);
    })();
    return this.#closed;
  }
}
