// What policy.js offers to whatever runs it: functions of strings and 32-bit integers.
import type { Json } from '../contract/schema.ts';
import type { Policy } from '../policies/policy.ts';
import {
  advance,
  begin,
  PolicyFault,
  restore,
  type SegmentLimits,
  type Sequence,
  snapshot,
} from './core.ts';
import { forbiddenName, harderStill } from './harden.ts';

/** What `load` gets beside the tables. */
export interface Load extends SegmentLimits {
  /** Number of token ids; a token outside [0, vocabulary) is refused. */
  readonly vocabulary: number;
}

/** A failure as JSON: `index` and `token` are -1 where no token was at work. */
export interface AbiError {
  readonly code: string;
  readonly message: string;
  readonly index: number;
  readonly token: number;
}

/**
 * `globalThis.lockstep` of policy.js. Every function returns a string: its result, or
 * `{"error": {...}}` (an AbiError).
 */
export interface Abi {
  /** JSON `{name, params}` of the policy. */
  describe(): string;
  /** Tables and limits (both JSON); once, before anything else. Returns ''. */
  load(tables: string, limits: string): string;
  /** A new sequence; returns its handle in decimal. */
  open(): string;
  /**
   * Push tokens of many sequences: `handle,count,token,...` for each, comma-separated decimals.
   * Returns `count,cut,...` for each in the same order; a cut is the number of tokens before it.
   */
  push(batch: string): string;
  /** Where a sequence stands: `position,length`. */
  where(handle: number): string;
  snapshot(handle: number): string;
  /** A sequence from a snapshot; returns its handle in decimal. */
  restore(text: string): string;
  free(handle: number): string;
  /** The token being pushed, `index,token`; `-1,-1` outside push. To be read after a call died. */
  progress(): string;
  /** For hosts that share memory: three cells that hold `handle, index, token` as progress does. */
  watch(cells: { [index: number]: number }): void;
  /** `push` over shared cells: reads and answers in place, returns the number of cells or an error. */
  exchange(cells: { [index: number]: number }, length: number): number | string;
}

/** The functions of policy.js for one policy. */
export function makeAbi(policy: Policy): Abi {
  const sequences = new Map<number, Sequence>();
  let tables: Json = null;
  let limits: Load = { min: 1, max: 1, align: 1, vocabulary: 0 };
  let handles = 0;
  let at: { [index: number]: number } = [-1, -1, -1];

  const idle = (): void => {
    at[0] = at[1] = at[2] = -1;
  };
  const failure = (error: unknown): string => {
    const { code, message } = described(error);
    const report: AbiError = { code, message, index: at[1] as number, token: at[2] as number };
    idle();
    return JSON.stringify({ error: report });
  };
  const guarded = (run: () => string): string => {
    try {
      return run();
    } catch (error) {
      return failure(error);
    }
  };
  const find = (handle: number): Sequence => {
    const sequence = sequences.get(handle);
    if (sequence !== undefined) return sequence;
    throw new PolicyFault(
      'LS_PLAN_CLOSED',
      'expected an open sequence, got one that is closed or failed',
    );
  };
  const add = (sequence: Sequence): string => {
    handles += 1;
    sequences.set(handles, sequence);
    return String(handles);
  };

  /** One sequence's tokens, cells [from, from + count); cuts go to cells [to, ...). */
  const run = (
    cells: { [index: number]: number },
    handle: number,
    from: number,
    count: number,
    to: number,
  ): number => {
    const sequence = find(handle);
    const { vocabulary } = limits;
    at[0] = handle;
    let end = to;
    for (let i = from; i < from + count; i++) {
      const token = cells[i] as number;
      at[2] = token;
      at[1] = sequence.position;
      if (!(token >= 0 && token < vocabulary && token % 1 === 0)) {
        throw new PolicyFault(
          'LS_PLAN_TOKEN',
          `expected token ids from 0 to ${vocabulary - 1}, got ${token}`,
        );
      }
      if (advance(policy, tables, limits, sequence, token)) {
        cells[end] = sequence.position;
        end += 1;
      }
    }
    return end;
  };

  /** Answers are never longer than what they answer, so they overwrite it from the left. */
  const exchange = (cells: { [index: number]: number }, length: number): number => {
    let to = 0;
    for (let from = 0; from < length; ) {
      const handle = cells[from] as number;
      const count = cells[from + 1] as number;
      let end: number;
      try {
        end = run(cells, handle, from + 2, count, to + 1);
      } catch (error) {
        // Its state may be half changed.
        sequences.delete(handle);
        throw error;
      }
      cells[to] = end - to - 1;
      to = end;
      from += 2 + count;
    }
    idle();
    return to;
  };

  return {
    describe: () => JSON.stringify({ name: policy.name, params: policy.params }),
    load: (tablesJson, limitsJson) =>
      guarded(() => {
        tables = deepFrozen(JSON.parse(tablesJson) as Json);
        limits = JSON.parse(limitsJson) as Load;
        harderStill();
        return '';
      }),
    open: () => guarded(() => add(begin(policy))),
    push: (batch) =>
      guarded(() => {
        const cells = JSON.parse(`[${batch}]`) as number[];
        return cells.slice(0, exchange(cells, cells.length)).join();
      }),
    where: (handle) =>
      guarded(() => {
        const { position, length } = find(handle);
        return `${position},${length}`;
      }),
    snapshot: (handle) => guarded(() => snapshot(find(handle))),
    restore: (text) => guarded(() => add(restore(text))),
    free: (handle) => {
      sequences.delete(handle);
      return '';
    },
    progress: () => `${at[1]},${at[2]}`,
    watch: (cells) => {
      at = cells;
      idle();
    },
    exchange: (cells, length) => {
      try {
        return exchange(cells, length);
      } catch (error) {
        return failure(error);
      }
    },
  };
}

/** Words of V8 and QuickJS (no regular expressions here: they are taken away). */
const outOfMemory = [
  'out of memory',
  'Invalid array length',
  'Invalid string length',
  'Array buffer allocation failed',
  'invalid array length',
  'invalid string length',
  'string too long',
  'invalid array buffer length',
  'Map maximum size exceeded',
  'Set maximum size exceeded',
];

/** An error's code and text, the same in every engine. */
function described(error: unknown): { code: string; message: string } {
  // QuickJS throws null where no memory is left even for an error.
  if (error === null) {
    return { code: 'LS_POLICY_LIMIT', message: 'takes more memory than it may, or throws null' };
  }
  if (error instanceof PolicyFault) return { code: error.code, message: error.message };
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const name = forbiddenName(error);
  if (name !== undefined) {
    return { code: 'LS_POLICY_FORBIDDEN', message: `reads ${name}, which no policy may read` };
  }
  const says = (part: string): boolean => text.includes(part);
  if (says('call stack') || says('stack overflow')) {
    return { code: 'LS_POLICY_LIMIT', message: 'calls itself without end' };
  }
  if (outOfMemory.some(says)) {
    return { code: 'LS_POLICY_LIMIT', message: 'takes more memory than it may' };
  }
  return { code: 'LS_POLICY_THREW', message: `threw ${text}` };
}

/** Tables are shared by all sequences: writing to them is an error. */
function deepFrozen(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value;
  for (const item of Object.values(value)) deepFrozen(item);
  return Object.freeze(value);
}
