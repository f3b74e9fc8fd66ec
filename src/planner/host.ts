// Runs a policy in quickjs-ng (WebAssembly), in this process and synchronously, within limits.
//
// A policy comes with a checkpoint, perhaps from strangers. It has no object of this realm, no memory
// but the engine's, and limits on time and memory that lie outside of it. What comes back is text and
// integers, and is checked.

import { LockstepError } from '../errors.ts';
import { BATCH_CELLS, batches, HEADER, type Part, type Push, writeParts } from './batches.ts';
import { EngineError, type Image, QuickJs, type Value } from './engine/quickjs.ts';
import { placed } from './find-place.ts';
import type { Outcome } from './gathered.ts';
import { nowhere, type PolicyReport, policyError } from './policy-error.ts';
import { currentRuntime, runtimeText } from './runtime/versions.ts';
import { placeIn } from './snapshot.ts';
import type { PolicySource } from './source.ts';
import { TokenLog } from './token-log.ts';
import { tokenTimer } from './token-timer.ts';
import { type Traced, traced } from './traced.ts';

export interface HostLimits {
  /** Time the policy may take over one token, milliseconds. Default 5000. */
  milliseconds?: number;
  /** Memory of the policy, MiB. Default 64. */
  megabytes?: number;
}

/** A call over many tokens may take this many times what one token may. */
const CALL_FACTOR = 12;

/** Engines that have loaded a runtime and no policy yet, by its text and by memory limit. */
const started = new Map<string, Map<number, { image: Image; offset: number; invoke: Value }>>();

/**
 * One policy; any number of sequences share it. Calls block the calling thread for as long as the
 * policy computes (microseconds a token).
 *
 * A policy that loops stops the host, and every later call says so; one that throws, or takes too much
 * memory or stack, ends the sequence it was at work on.
 */
export class PolicyHost {
  readonly #name: string;
  readonly #source: PolicySource;
  readonly #traced: Traced | undefined;
  readonly #limits: Required<HostLimits>;
  readonly #engine: QuickJs;
  readonly #invoke: Value;
  readonly #offset: number;
  readonly #segment: PolicySource['contract']['segment'];
  /** Position, start of the open segment and tokens of every sequence. */
  readonly #sequences = new Map<number, { position: number; start: number; log: TokenLog }>();
  #stopped: LockstepError | undefined;

  /**
   * @param traced what `tracedHost` gives, to find the places of errors
   * @throws LS_POLICY_LOAD, LS_POLICY_FORBIDDEN, LS_POLICY_MEMORY or LS_POLICY_LIMIT where the policy
   *   cannot be loaded; LS_POLICY_RUNTIME
   */
  constructor(source: PolicySource, limits: HostLimits = {}, traced?: Traced) {
    const { contract, policySource } = source;
    const { policy, tables, segment, tokenizer } = contract;
    this.#name = policy.name;
    this.#source = source;
    this.#traced = traced;
    this.#segment = segment;
    this.#limits = { milliseconds: 5000, megabytes: 64, ...limits };
    const runtime = traced?.runtime ?? runtimeText(policy.runtime ?? currentRuntime);
    const { megabytes } = this.#limits;
    const known = started.get(runtime)?.get(megabytes);
    this.#engine = new QuickJs(megabytes, known?.image);
    if (known === undefined) {
      const { value: buffer, offset } = this.#engine.buffer(4 * (HEADER + BATCH_CELLS));
      this.#offset = offset;
      this.#invoke = this.#evaluate(runtime, 'policy-runtime.js');
      this.#call('cells', buffer);
      const image = this.#engine.image();
      if (!started.has(runtime)) started.set(runtime, new Map());
      started.get(runtime)?.set(megabytes, { image, offset, invoke: this.#invoke });
    } else {
      this.#offset = known.offset;
      this.#invoke = known.invoke;
    }
    const given = { tables, limits: { ...segment, vocabulary: tokenizer.size } };
    this.#placed(() => {
      const text = traced?.policy.text ?? policySource;
      this.#call('policy', this.#evaluate(text, 'policy.js'));
      this.#call('load', JSON.stringify(given));
    });
  }

  /** A new sequence. @throws LS_POLICY_* where the policy's `start` fails */
  open(): number {
    const text = this.#placed(
      () => this.#call('open'),
      (traced) => traced.open(),
    );
    const handle = this.#integer(text);
    this.#sequences.set(handle, { position: 0, start: 0, log: new TokenLog() });
    return handle;
  }

  /** JSON from which `restore` continues exactly. @throws LS_POLICY_STATE where the state is no JSON */
  snapshot(handle: number): string {
    return this.#call('snapshot', String(handle));
  }

  /**
   * A new sequence from a snapshot.
   *
   * @throws LS_PLAN_SNAPSHOT where the text is none
   */
  restore(snapshot: string): number {
    const where = placeIn(snapshot, this.#segment.max);
    const handle = this.#integer(this.#call('restore', snapshot));
    this.#sequences.set(handle, { ...where, log: new TokenLog(snapshot) });
    return handle;
  }

  free(handle: number): void {
    this.#sequences.delete(handle);
    if (this.#stopped !== undefined) return;
    try {
      this.#call('free', String(handle));
    } catch (error) {
      // A stopped engine has nothing left to free.
      if (this.#stopped === undefined) throw error;
    }
  }

  /** Name and parameters of the policy, as policy.js has them. */
  describe(): { name: string; params: unknown } {
    return JSON.parse(this.#call('describe')) as { name: string; params: unknown };
  }

  /**
   * Push tokens of many sequences in one call.
   *
   * @returns per push the cuts decided: numbers of tokens before each cut. After an error none of the
   *   sequences pushed can continue.
   * @throws LS_POLICY_*, LS_PLAN_TOKEN naming the policy, the token's index in its sequence and its id
   */
  push(pushes: readonly Push[]): number[][] {
    const cuts: number[][] = pushes.map(() => []);
    for (const parts of batches(pushes, BATCH_CELLS)) this.#exchange(parts, cuts);
    return cuts;
  }

  /**
   * Push tokens of sequences that have nothing to do with each other: each fails alone, unless the
   * policy runs without end. Costs less than a call of `push` for each.
   *
   * @returns what `push` gives or throws, per push
   */
  pushEach(pushes: readonly Push[]): Outcome<number[]>[] {
    const pushed: Outcome<number[]>[] = [];
    try {
      this.#guard(() =>
        this.#engine.together(this.#limits.milliseconds * CALL_FACTOR, () => {
          for (const one of pushes) pushed.push(this.#attempt(one));
        }),
      );
    } catch (error) {
      for (const { handle } of pushes.slice(pushed.length)) this.free(handle);
      while (pushed.length < pushes.length) pushed.push({ error });
    }
    return pushed;
  }

  #attempt(push: Push): Outcome<number[]> {
    try {
      return { value: this.push([push])[0] as number[] };
    } catch (error) {
      return { error };
    }
  }

  /** Whether the host can run no more: closed, or stopped by a policy without end. */
  get stopped(): boolean {
    return this.#stopped !== undefined;
  }

  /** Forget the policy. Idempotent; its sequences cannot be used any more. */
  close(): void {
    this.#stopped ??= new LockstepError(
      'LS_PLAN_CLOSED',
      `expected an open planner, got a closed one (${this.#name})`,
      { fix: 'Close a planner after its last use.' },
    );
  }

  #exchange(parts: readonly Part[], cuts: number[][]): void {
    if (this.#stopped !== undefined) throw this.#stopped;
    writeParts(this.#cells(), parts);
    try {
      this.#placed(
        () => this.#call('push'),
        (traced) => this.#again(traced, parts),
      );
      this.#unpack(parts, cuts);
    } catch (error) {
      for (const { handle } of parts) this.free(handle);
      throw error;
    }
  }

  /** Run code of the policy; an error of it gets its place in the policy's source. */
  #placed<T>(run: () => T, again?: (traced: PolicyHost) => void): T {
    const host = (): PolicyHost | undefined =>
      // A policy that was stopped would run as long again, and end without a stack.
      this.stopped || this.#traced ? undefined : tracedHost(this.#source, this.#limits);
    return placed(run, host, again);
  }

  /** Push the parts again, each behind what its sequence was given before. */
  #again(traced: PolicyHost, parts: readonly Part[]): void {
    for (const { handle, tokens, from, to } of parts) {
      const log = this.#sequences.get(handle)?.log;
      const before = log?.tokens();
      if (log === undefined || before === undefined) continue;
      const own = log.snapshot === undefined ? traced.open() : traced.restore(log.snapshot);
      traced.push([{ handle: own, tokens: before }]);
      traced.push([{ handle: own, tokens: Array.prototype.slice.call(tokens, from, to) }]);
      traced.free(own);
    }
  }

  /** Read `count, cut, ...` of every part. The cuts must be what the planner's rule allows. */
  #unpack(parts: readonly Part[], cuts: number[][]): void {
    const { min, max, align } = this.#segment;
    const cells = this.#cells();
    let at = HEADER;
    for (const { index, handle, tokens, from, to } of parts) {
      const where = this.#sequences.get(handle);
      const count = cells[at++] as number;
      if (where === undefined || !(count >= 0 && count <= to - from)) throw this.#broken();
      where.position += to - from;
      where.log.add(tokens, from, to);
      for (let i = 0; i < count; i++) {
        const cut = cells[at++] as number;
        const length = cut - where.start;
        if (length < min || length > max || length % align !== 0 || cut > where.position) {
          throw this.#broken();
        }
        where.start = cut;
        (cuts[index] as number[]).push(cut);
      }
      if (where.position - where.start >= max) throw this.#broken();
    }
  }

  #cells(): Int32Array {
    return this.#engine.cells(this.#offset, HEADER + BATCH_CELLS);
  }

  #call(operation: string, given?: string | Value): string {
    if (this.#stopped !== undefined) throw this.#stopped;
    const { interrupt, milliseconds } = this.#timer();
    const text = this.#guard(() => {
      const values = [this.#engine.text(operation)];
      if (given !== undefined) {
        values.push(typeof given === 'string' ? this.#engine.text(given) : given);
      }
      return this.#engine.call(this.#invoke, values, interrupt, milliseconds);
    });
    if (!text.startsWith('{"error":')) return text;
    throw this.#error((JSON.parse(text) as { error: PolicyReport }).error);
  }

  #evaluate(source: string, file: string): Value {
    const { interrupt, milliseconds } = this.#timer();
    return this.#guard(() => this.#engine.evaluate(source, file, interrupt, milliseconds));
  }

  #timer(): { interrupt: () => boolean; milliseconds: number } {
    const { milliseconds } = this.#limits;
    const interrupt = tokenTimer(milliseconds, () => this.#cells()[2] as number);
    return { interrupt, milliseconds: milliseconds * CALL_FACTOR };
  }

  /** @throws LS_POLICY_LIMIT where the engine was stopped, LS_POLICY_LOAD where policy.js threw */
  #guard<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      if (error.kind === 'load')
        throw new LockstepError('LS_POLICY_ENGINE', error.message, {
          fix: 'Install Lockstep again: npm ci.',
          cause: error,
        });
      if (error.kind === 'threw') {
        throw this.#error({
          ...nowhere,
          code: 'LS_POLICY_LOAD',
          message: `threw ${error.message} when it was loaded`,
        });
      }
      const [, , index, token] = this.#cells();
      const { milliseconds, megabytes } = this.#limits;
      const why = {
        interrupted: `no answer within ${milliseconds / 1000} s: it loops, or needs more than ${megabytes} MiB`,
        exhausted: `it takes more memory than it may, ${megabytes} MiB`,
        trapped: 'the stack overflowed: unbounded recursion, or data nested too deeply',
      }[error.kind];
      this.#stopped = this.#error({
        code: 'LS_POLICY_LIMIT',
        message: `expected an answer, got none: ${why}`,
        index: index as number,
        token: token as number,
      });
      throw this.#stopped;
    }
  }

  #integer(text: string): number {
    const value = Number(text);
    if (Number.isSafeInteger(value)) return value;
    throw this.#broken();
  }

  /** What comes back is not what the planner's runtime says: a policy broke out of its place in it. */
  #broken(): LockstepError {
    this.#stopped = this.#error({
      ...nowhere,
      code: 'LS_POLICY_BROKEN',
      message: 'expected cuts within the limits of the segment, got others',
    });
    return this.#stopped;
  }

  #error(report: PolicyReport): LockstepError {
    return policyError(report, this.#name, this.#source.policySource, this.#traced?.policy);
  }
}

/**
 * A host whose errors have places, and whose snapshots say what push answered last (`answer`); undefined
 * where the policy has no traced form.
 */
export function tracedHost(source: PolicySource, limits?: HostLimits): PolicyHost | undefined {
  const runtime = runtimeText(source.contract.policy.runtime ?? currentRuntime);
  const forms = traced(runtime, source.policySource);
  return forms && new PolicyHost(source, limits, forms);
}
