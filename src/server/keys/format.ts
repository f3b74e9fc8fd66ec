// The content of a keys file, and what is refused in one. The schema is strict: an unknown field is an error.
import { z } from 'zod';
import { LockstepError } from '../../errors.ts';

/** The format's version, which the file names first. */
const KEYS_VERSION = 1;

/** Names that mean something else: a client without a key, and the one key of `--api-key`. */
const RESERVED_NAMES = ['anonymous', 'key'];

const WHOLE = 'expected a whole number of at least 1';
const count = z.int(WHOLE).positive(WHOLE);

/** Largest `weight`. */
export const MOST_WEIGHT = 100;

/** What one key may ask of the server. A field that is left out sets no limit. */
const keyLimits = z.strictObject({
  /** Requests in 60 seconds. */
  requestsPerMinute: count.optional(),
  /** Tokens of prompts and answers in 60 seconds. */
  tokensPerMinute: count.optional(),
  /** Tokens of prompts and answers in 24 hours. */
  tokensPerDay: count.optional(),
  /** Generations at once, those that wait in the queue counted. */
  sessions: count.optional(),
  /** Slots in turn for each one of a key of weight 1, while both wait. */
  weight: count.max(MOST_WEIGHT, `expected at most ${MOST_WEIGHT}`).optional(),
});

export type KeyLimits = z.infer<typeof keyLimits>;

const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'expected 1 to 64 letters, digits, dots, - or _')
  .refine((text) => !RESERVED_NAMES.includes(text), 'this name is reserved');

export const keyEntry = z.strictObject({
  name,
  /** The middle part of the key, by which it is found. It is no secret. */
  id: z.string().regex(/^[a-z2-7]{10}$/, 'expected 10 letters or digits'),
  /** `scrypt:N:r:p:salt:hash`, salt and hash in base64url. */
  hash: z
    .string()
    .regex(
      /^scrypt:(16384|32768|65536|131072):8:1:[A-Za-z0-9_-]{22}:[A-Za-z0-9_-]{43}$/,
      'expected a hash that `lockstep keys add` wrote',
    ),
  created: z.iso.datetime(),
  limits: keyLimits.optional(),
  /** Whether the holder may read `/metrics` and `/lockstep/engine`, which tell about all callers. */
  metrics: z.boolean().optional(),
});

export type KeyEntry = z.infer<typeof keyEntry>;

const keysFile = z.strictObject({
  lockstepKeys: z.literal(KEYS_VERSION),
  keys: z.array(keyEntry).max(10_000),
});

/**
 * The entries of a keys file.
 *
 * @param file its path, for messages
 * @throws LS_KEYS_FORMAT for anything that is not exactly such a file; no part of its text is repeated
 */
export function parseKeys(text: string, file: string): KeyEntry[] {
  if (text.trim() === '') throw broken(file, 'keys of clients', 'an empty file');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message repeats a part of the file.
    throw broken(file, 'JSON', 'text that is not JSON');
  }
  const parsed = keysFile.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0] as z.core.$ZodIssue;
    const where = issue.path.length === 0 ? '' : ` in ${issue.path.join('.')}`;
    throw broken(file, 'a keys file of version 1', `another one${where} (${issue.message})`);
  }
  const { keys } = parsed.data;
  for (const field of ['name', 'id'] as const) {
    const seen = new Set<string>();
    for (const key of keys) {
      if (seen.has(key[field])) throw broken(file, `each ${field} once`, `${key[field]} twice`);
      seen.add(key[field]);
    }
  }
  return keys;
}

export function keysText(keys: readonly KeyEntry[]): string {
  return `${JSON.stringify({ lockstepKeys: KEYS_VERSION, keys }, null, 2)}\n`;
}

export function broken(file: string, expected: string, got: string): LockstepError {
  return new LockstepError('LS_KEYS_FORMAT', `expected ${expected} in ${file}, got ${got}`, {
    fix: 'Restore the file, or remove it if it holds no keys: `lockstep keys add FILE NAME` then makes a new one. Edit only `limits` by hand.',
  });
}
