// The digest: one number that says two runtimes compute the same thing.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import canonicalizeModule from 'canonicalize';
import { LockstepError } from '../errors.ts';
import type { Contract } from './schema.ts';

// The package is CommonJS: its typed default export is the function itself under interop.
const canonicalize = canonicalizeModule as unknown as (value: unknown) => string | undefined;

/** SHA-256 of text (as UTF-8) or bytes, in lowercase hexadecimal digits. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** SHA-256 of a file, read as a stream. */
export async function sha256File(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** An unpaired surrogate in canonical JSON: written as an escape, which nothing else above U+001F is. */
const unpaired = /(?<!\\)(?:\\\\)*\\ud[89a-f]/i;

/**
 * RFC 8785 form of a JSON value.
 *
 * @throws LS_CONTRACT_JSON for NaN, infinities and strings that are not Unicode, which it cannot hold
 */
export function canonicalJson(value: unknown): string {
  let text: string | undefined;
  try {
    text = canonicalize(value);
  } catch (cause) {
    throw notJson((cause as Error).message, cause);
  }
  if (text === undefined) throw notJson(String(value));
  if (unpaired.test(text)) throw notJson('a string with an unpaired surrogate');
  return text;
}

/** Digest of a contract: SHA-256 over the RFC 8785 form of all but `digest`, `training`, `trained`. */
export function digestOf(
  contract: Omit<Contract, 'digest' | 'training' | 'trained'> & Partial<Contract>,
): string {
  const { digest: _digest, training: _training, trained: _trained, ...digested } = contract;
  return sha256(canonicalJson(digested));
}

function notJson(got: string, cause?: unknown): LockstepError {
  return new LockstepError('LS_CONTRACT_JSON', `expected JSON for the digest, got: ${got}`, {
    fix: 'Let parameters and tables hold integers, booleans, well-formed strings, lists and objects.',
    cause,
  });
}
