// What of a tokenizer.json is handed to native code. The tokenizers package ends the whole process when
// it panics, and a checkpoint that was downloaded brings its own tokenizer.json.
import { LockstepError } from '../errors.ts';
import { isObject, isObjectOrArray } from '../json.ts';
import type { TokenizerJson } from './bytes.ts';
import { patternName, patternProblem, rules } from './pattern.ts';

/** The variable in which an operator names patterns to be trusted. */
const trusting = 'LOCKSTEP_TRUST_PATTERNS';

/**
 * Refuse parts of unknown kinds, regular expressions whose work can explode, and sizes without sense.
 *
 * @throws LS_TOKENIZER_UNSUPPORTED, LS_TOKENIZER_PATTERN, LS_TOKENIZER_SIZE
 */
export function checkTokenizer(json: TokenizerJson, file: string): void {
  const parts = (isObject(json) ? json : {}) as Record<string, unknown>;
  for (const slot of Object.keys(rules.types)) {
    walk(parts[slot], slot, slot, file);
  }
  const model = parts['model'];
  if (!isObject(model) || !isObjectOrArray(model['vocab'])) {
    throw unsupported(`expected a model with a vocabulary in ${file}, got none`, 'model');
  }
  if (Number(model['dropout'] ?? 0) !== 0) {
    const got = JSON.stringify(model['dropout']);
    throw unsupported(
      `expected no dropout in ${file}, got ${got}: ids would differ`,
      'model.dropout',
    );
  }
  // With one, a merge may end inside a character, and the tokenizers package panics.
  if ((model['continuing_subword_prefix'] ?? '') !== '') {
    throw unsupported(
      `expected no continuing_subword_prefix in ${file}, got ${JSON.stringify(model['continuing_subword_prefix'])}`,
      'model.continuing_subword_prefix',
    );
  }
  checkSizes(model, parts['added_tokens'], file);
}

function walk(part: unknown, slot: string, field: string, file: string): void {
  if (part === null || part === undefined) return;
  const kinds = rules.types[slot] as string[];
  const kind = isObject(part) ? part['type'] : undefined;
  if (!isObject(part) || typeof kind !== 'string' || !kinds.includes(kind)) {
    throw unsupported(
      `expected ${field}.type to be one of ${kinds.join(', ')} in ${file}, got ${JSON.stringify(kind ?? null)}`,
      field,
    );
  }
  if (slot === 'normalizer') refuseEmpty(part, field, file);
  for (const [name, value] of Object.entries(part)) {
    // The vocabulary and merges hold no parts, and millions of entries.
    if (slot === 'model' || !isObjectOrArray(value)) continue;
    const at = `${field}.${name}`;
    if (typeof value['Regex'] === 'string') checkPattern(value['Regex'], at, file);
    if (!Array.isArray(value)) continue;
    value.forEach((inner: unknown, i) => {
      if (kind === 'Sequence') walk(inner, slot, `${at}[${i}]`, file);
    });
  }
}

/** The tokenizers package panics where a normalizer takes a text away altogether or adds nothing. */
function refuseEmpty(part: Record<string, unknown>, field: string, file: string): void {
  const { type, prepend, content, pattern } = part;
  const empty =
    (type === 'Prepend' && prepend === '' && 'prepend') ||
    (type === 'Replace' && content === '' && 'content') ||
    // A regular expression may match nothing, at the end of a text too; Llama and Mistral have none here.
    (type === 'Replace' && !(isObject(pattern) && isText(pattern['String'])) && 'pattern');
  if (empty === false) return;
  throw unsupported(
    `expected a text at ${field}.${empty} of ${file}, got ${JSON.stringify(part[empty] ?? null)}`,
    `${field}.${empty}`,
  );
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

function checkPattern(pattern: string, field: string, file: string): void {
  const problem = patternProblem(pattern);
  if (problem === null) return;
  const name = patternName(pattern);
  const trusted = (process.env[trusting] ?? '').split(',').map((one) => one.trim());
  if (trusted.includes(name)) return;
  const shown = pattern.length > 120 ? `${pattern.slice(0, 120)}…` : pattern;
  throw new LockstepError(
    'LS_TOKENIZER_PATTERN',
    `expected a regular expression that runs in linear time at ${field} of ${file}, got ${shown}: ${problem}`,
    {
      fix: `Such a pattern can stop the whole server on a short text. If you trust its source and accept that: ${trusting}=${name}`,
      field,
    },
  );
}

function checkSizes(model: Record<string, unknown>, added: unknown, file: string): void {
  const vocab = model['vocab'] as object;
  let largest = 0;
  if (Array.isArray(vocab)) largest = vocab.length - 1;
  else for (const id of Object.values(vocab)) largest = Math.max(largest, checkedId(id, file));
  const tokens = Array.isArray(added) ? (added as { id: unknown; content: unknown }[]) : [];
  let characters = 0;
  for (const token of tokens) {
    largest = Math.max(largest, checkedId(token?.id, file));
    if (typeof token.content !== 'string' || token.content === '') {
      throw tooMuch('a text', JSON.stringify(token.content ?? null), 'added_tokens', file);
    }
    characters += token.content.length;
  }
  const { ids, addedTokens, addedCharacters } = rules;
  if (largest >= ids) throw tooMuch(`ids below ${ids}`, largest, 'model.vocab', file);
  if (tokens.length > addedTokens) {
    throw tooMuch(`at most ${addedTokens} added tokens`, tokens.length, 'added_tokens', file);
  }
  if (characters > addedCharacters) {
    const expected = `at most ${addedCharacters} characters of added tokens`;
    throw tooMuch(expected, characters, 'added_tokens', file);
  }
}

function checkedId(id: unknown, file: string): number {
  if (Number.isInteger(id) && (id as number) >= 0) return id as number;
  throw tooMuch('ids that are whole numbers', JSON.stringify(id ?? null), 'model.vocab', file);
}

function tooMuch(expected: string, got: unknown, field: string, file: string): LockstepError {
  return new LockstepError('LS_TOKENIZER_SIZE', `expected ${expected} in ${file}, got ${got}`, {
    fix: 'Copy tokenizer.json again from the original checkpoint.',
    field,
  });
}

function unsupported(message: string, field: string): LockstepError {
  return new LockstepError('LS_TOKENIZER_UNSUPPORTED', message, {
    fix: 'Use a Llama, Qwen or Mistral checkpoint with its own tokenizer.json.',
    field,
  });
}
