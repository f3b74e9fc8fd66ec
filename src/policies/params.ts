// Parameters of a policy: checked against the types of their defaults.

import { LockstepError } from '../errors.ts';
import type { Json } from '../json.ts';
import type { Params } from './policy.ts';

/** Refuse the parameter at `path` (`size`, `strings[2]`): it should have been `expected`. */
export type Refuse = (path: string, expected: string) => never;

/**
 * Given parameters over their defaults, deeply frozen.
 *
 * @throws LS_POLICY_PARAMS naming path, expected and received
 */
export function checkParams(name: string, defaults: Params, given: unknown): Params {
  const refuse = refusal(name, given);
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    // A default that is empty may stand for a parameter that must be given.
    const first = Object.keys(defaults).find(
      (key) => !['[]', '""'].includes(printed(defaults[key])),
    );
    const example = first && `, such as ${name}({ ${first}: ${printed(defaults[first])} })`;
    return refuse('', `an object of parameters${example ?? ''}`);
  }
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(defaults, key)) {
      refuse(key, `one of the parameters ${Object.keys(defaults).join(', ') || '(none)'}`);
    }
  }
  const merged: Record<string, Json> = {};
  for (const [key, fallback] of Object.entries(defaults)) {
    const value = (given as Record<string, unknown>)[key];
    merged[key] = freeze(value === undefined ? fallback : sameType(value, fallback, key, refuse));
  }
  return Object.freeze(merged);
}

/** `refuse` for one policy's parameters, with what was received taken from them. */
export function refusal(name: string, params: unknown): Refuse {
  return (path, expected) => {
    const at = path === '' ? name : `${name}.${path}`;
    throw new LockstepError(
      'LS_POLICY_PARAMS',
      `${at}: expected ${expected}, got ${printed(valueAt(params, path))}`,
      { fix: `Correct the parameters of ${name}(...).`, ...(path === '' ? {} : { field: path }) },
    );
  };
}

/** Check that `value` is JSON of integers and of the same kind as `fallback`. */
function sameType(value: unknown, fallback: Json, path: string, refuse: Refuse): Json {
  const expected = kindOf(fallback);
  if (kindOf(value) !== expected) refuse(path, expected);
  if (Array.isArray(value)) {
    const [first] = fallback as readonly Json[];
    value.forEach((item, i) => {
      const inner = `${path}[${i}]`;
      if (first === undefined) plain(item, inner, refuse);
      else sameType(item, first, inner, refuse);
    });
  } else plain(value, path, refuse);
  return value as Json;
}

function plain(value: unknown, path: string, refuse: Refuse): void {
  const kind = kindOf(value);
  if (kind === 'a list') {
    (value as unknown[]).forEach((item, i) => {
      plain(item, `${path}[${i}]`, refuse);
    });
  } else if (kind === 'an object') {
    for (const [key, item] of Object.entries(value as object))
      plain(item, `${path}.${key}`, refuse);
  } else if (kind === 'something else') {
    refuse(path, 'JSON without floating-point numbers');
  }
}

/** The first value, at any depth, that a contract cannot hold: a fraction, a function, nothing. */
export function noInteger(value: unknown, path: string): { path: string; got: string } | undefined {
  const kind = kindOf(value);
  if (kind === 'something else') return { path, got: printed(value) };
  if (kind !== 'a list' && kind !== 'an object') return undefined;
  for (const [key, item] of Object.entries(value as object)) {
    const found = noInteger(item, kind === 'a list' ? `${path}[${key}]` : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number')
    return Number.isSafeInteger(value) ? 'an integer' : 'something else';
  if (typeof value === 'string') return 'a string';
  if (typeof value === 'boolean') return 'a boolean';
  if (typeof value !== 'object') return 'something else';
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null
    ? 'an object'
    : 'something else';
}

function valueAt(params: unknown, path: string): unknown {
  let value = params;
  for (const step of path.split(/[.[\]]+/)) {
    if (step !== '') value = (value as Record<string, unknown> | undefined)?.[step];
  }
  return value;
}

function printed(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** A deep frozen copy: what the caller does with the list afterwards does not reach the policy. */
function freeze(value: Json): Json {
  if (Array.isArray(value)) return Object.freeze(value.map(freeze));
  if (typeof value !== 'object' || value === null) return value;
  return Object.freeze(
    Object.fromEntries(Object.entries(value).map(([key, item]) => [key, freeze(item)])),
  );
}
