// The planner's rule, the one implementation of it (SEMANTICS.md 5). It is part of every policy.js.
import type { Json } from '../contract/schema.ts';
import type { Policy } from '../policies/policy.ts';

/** Lengths in tokens; min and max are multiples of align. */
export interface SegmentLimits {
  readonly min: number;
  readonly max: number;
  readonly align: number;
}

/** One sequence: where it stands, its open segment, and the policy's state. JSON. */
export interface Sequence {
  /** Tokens seen. */
  position: number;
  /** Tokens in the open segment. */
  length: number;
  /** A request was accepted and waits for a length divisible by align. */
  asked: boolean;
  state: unknown;
}

/** A policy that did what it may not do with a token. */
export class PolicyFault extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** An empty sequence. */
export function begin(policy: Policy): Sequence {
  const state = policy.start();
  checkState(state, 'state');
  return { position: 0, length: 0, asked: false, state };
}

/**
 * Take one token.
 *
 * A request at length < min is dropped; otherwise the cut falls at the first length >= the present
 * one that align divides, requests meanwhile being ignored; max forces it.
 *
 * @returns whether the segment ends after this token
 */
export function advance(
  policy: Policy,
  tables: Json,
  limits: SegmentLimits,
  sequence: Sequence,
  token: number,
): boolean {
  const asks = policy.push(sequence.state, token, tables);
  if (typeof asks !== 'boolean') {
    throw new PolicyFault(
      'LS_POLICY_RESULT',
      `expected push to return a boolean, got ${kind(asks)}`,
    );
  }
  sequence.position += 1;
  sequence.length += 1;
  if (asks && sequence.length >= limits.min) sequence.asked = true;
  const due = sequence.asked && sequence.length % limits.align === 0;
  if (!due && sequence.length < limits.max) return false;
  sequence.length = 0;
  sequence.asked = false;
  policy.cut(sequence.state, tables);
  return true;
}

/** A sequence as JSON text, from which `restore` goes on exactly. */
export function snapshot(sequence: Sequence): string {
  checkState(sequence.state, 'state');
  return JSON.stringify(sequence);
}

export function restore(text: string): Sequence {
  const { position, length, asked, state } = JSON.parse(text) as Sequence;
  return { position, length, asked, state };
}

/** Only what JSON gives back unchanged: a snapshot must not change a plan. */
function checkState(value: unknown, path: string): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number' && value - value === 0) return;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) checkState(value[i], `${path}[${i}]`);
    return;
  }
  if (typeof value === 'object') {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      for (const key of Object.keys(value)) {
        checkState((value as Record<string, unknown>)[key], `${path}.${key}`);
      }
      return;
    }
  }
  throw new PolicyFault('LS_POLICY_STATE', `expected ${path} to be JSON, got ${kind(value)}`);
}

function kind(value: unknown): string {
  if (value === null || value === undefined || typeof value === 'number') return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  return `a ${value.constructor?.name ?? 'object without prototype'}`;
}
