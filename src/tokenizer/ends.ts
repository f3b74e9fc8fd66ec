// The ids that end an answer: what tokenizer_config, config and generation_config say, together.
// python/lockstep/tokenizer/ends.py computes the same.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.ts';
import { jsonText, show } from '../json-text.ts';

type Settings = Readonly<Record<string, unknown>>;

/** Where a checkpoint says which token ends an answer. */
export interface EndSources {
  /** Content of config.json and generation_config.json, `{}` where absent; `readTokenizerSettings`. */
  config: Settings;
  generation: Settings;
  settings: Settings;
}

/** The parts of tokenizer.json that give a token's text an id. */
export interface TokenIds {
  model?: { vocab?: Record<string, number> | [string, number][] };
  added_tokens?: { id: number; content: string }[];
}

/**
 * The union of the three, ascending, each id once. Ids beyond the vocabulary, which no model can
 * write (-1 stands for none), are left out.
 *
 * @param tokenizer parsed tokenizer.json, asked for only where a text needs an id
 * @param size rows of the embedding
 * @throws LS_MODEL_CONFIG for what is neither an id nor a list of ids, or no token's text
 */
export function endIds(sources: EndSources, tokenizer: () => TokenIds, size: number): number[] {
  const ids = new Set<number>();
  for (const [file, value] of [
    ['config.json', sources.config['eos_token_id']],
    ['generation_config.json', sources.generation['eos_token_id']],
  ] as const) {
    for (const id of asIds(value, file)) if (id >= 0 && id < size) ids.add(id);
  }
  const text = endText(sources.settings['eos_token']);
  if (text !== null) {
    const id = tokenId(tokenizer(), text);
    if (id !== null && id < size) ids.add(id);
  }
  return [...ids].sort((a, b) => a - b);
}

/** `endIds` of a checkpoint folder. */
export async function readEnds(dir: string, config: Settings, size: number): Promise<number[]> {
  const [generation, settings] = await Promise.all([
    readSettings(path.join(dir, 'generation_config.json')),
    readTokenizerSettings(dir),
  ]);
  const needed = settings['eos_token'] != null;
  const raw = needed ? await readFile(path.join(dir, 'tokenizer.json'), 'utf8') : '{}';
  return endIds({ config, generation, settings }, () => JSON.parse(raw) as TokenIds, size);
}

/**
 * An object of settings; `{}` where the file is absent.
 *
 * @throws LS_MODEL_CONFIG for a file that holds none
 */
export async function readSettings(file: string): Promise<Settings> {
  let got: string;
  try {
    const value: unknown = JSON.parse(jsonText(await readFile(file)));
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
      return value as Settings;
    }
    got = show(value).slice(0, 40);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {};
    got = (cause as Error).message;
  }
  throw bad(`a JSON object in ${file}`, got);
}

/**
 * What tokenizer_config.json says, and special_tokens_map.json of older checkpoints: as transformers does,
 * its entries go before where tokenizer_config.json has no `added_tokens_decoder`.
 *
 * @throws LS_MODEL_CONFIG for a file that holds no object
 */
export async function readTokenizerSettings(dir: string): Promise<Settings> {
  const settings = await readSettings(path.join(dir, 'tokenizer_config.json'));
  if ('added_tokens_decoder' in settings) return settings;
  return { ...settings, ...(await readSettings(path.join(dir, 'special_tokens_map.json'))) };
}

function asIds(value: unknown, file: string): number[] {
  if (value === undefined || value === null) return [];
  const ids = Array.isArray(value) ? value : [value];
  const other = ids.find((id) => !Number.isSafeInteger(id));
  if (other === undefined && !ids.includes(undefined)) return ids as number[];
  throw bad(`an id or a list of ids for eos_token_id in ${file}`, show(value), 'eos_token_id');
}

/** Text of `eos_token`; older files write an object. */
function endText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = typeof value === 'object' ? (value as { content?: unknown }).content : value;
  if (typeof text === 'string') return text;
  throw bad('a text for eos_token in tokenizer_config.json', show(value), 'eos_token');
}

function tokenId({ model, added_tokens: added = [] }: TokenIds, text: string): number | null {
  const found = added.find(({ content }) => content === text);
  if (found !== undefined) return found.id;
  const vocab = model?.vocab ?? {};
  if (!Array.isArray(vocab)) return Object.hasOwn(vocab, text) ? (vocab[text] as number) : null;
  const at = vocab.findIndex(([piece]) => piece === text);
  return at === -1 ? null : at;
}

function bad(expected: string, got: string, field?: string): LockstepError {
  return new LockstepError('LS_MODEL_CONFIG', `expected ${expected}, got ${got}`, {
    fix: 'Copy the file again from the original checkpoint.',
    ...(field === undefined ? {} : { field }),
  });
}
