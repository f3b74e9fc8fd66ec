// What a checkpoint's settings may name: files of its own folder, and no code. Counterpart of
// python/lockstep/contract/checkpoint_names.py; a test has both judge the same folders.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from './errors.ts';
import { checkInside, isPlainName } from './inside.ts';
import { isObject, isObjectOrArray } from './json.ts';
import { toolTemplateFile } from './template/source.ts';

const settings = [
  ...['config.json', 'generation_config.json', 'tokenizer_config.json'],
  ...['special_tokens_map.json', 'adapter_config.json', 'processor_config.json'],
];
const others = ['lockstep.json', 'policy.js', 'tokenizer.json', 'chat_template.jinja'];

/** Fields that have some library load and run Python files, here or from a hub. */
const code = ['auto_map', 'custom_pipelines', 'custom_generate'];

/** Notes of where a file once was, which nothing reads. */
const notes = [
  '_name_or_path',
  'name_or_path',
  'special_tokens_map_file',
  'base_model_name_or_path',
];

/**
 * Refuse a checkpoint folder whose settings name code, or files outside of it, or are links to such.
 *
 * @throws LS_CHECKPOINT_CODE, LS_CHECKPOINT_PATH, LS_CHECKPOINT_LINK
 */
export async function checkNames(dir: string): Promise<void> {
  const names = await readdir(dir).catch((): string[] => []);
  await checkInside(dir, path.join(dir, toolTemplateFile));
  const indexes = names.filter((name) => name.endsWith('.index.json')).sort();
  for (const name of [...settings, ...indexes, ...others]) {
    if (!names.includes(name)) continue;
    const file = path.join(dir, name);
    await checkInside(dir, file);
    if (others.includes(name)) continue;
    const value = await readFile(file, 'utf8').then(parsed, () => null);
    if (indexes.includes(name)) checkIndex(value, file);
    else checkSettings(value, file);
  }
}

/** Null for invalid JSON: the code that needs the file reports it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function checkIndex(value: unknown, file: string): void {
  const map = isObject(value) ? value['weight_map'] : null;
  if (!isObjectOrArray(map)) return;
  for (const name of Object.values(map)) checkName(name, 'weight_map', file);
}

function checkSettings(value: unknown, file: string): void {
  // Not by recursion: a file may nest deeper than the stack is.
  const open: object[] = isObjectOrArray(value) ? [value] : [];
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    for (const [name, inner] of Object.entries(part)) {
      if (code.includes(name) && inner !== null) throw coded(name, file);
      if (/_(file|path|dir|folder)$/.test(name) && !notes.includes(name)) {
        if (typeof inner === 'string') checkName(inner, name, file);
      }
      if (name === 'chat_template' && Array.isArray(inner)) {
        // Libraries write each to a file of its name.
        for (const one of inner)
          checkName(isObjectOrArray(one) ? one['name'] : one, `${name}.name`, file);
      }
      if (isObjectOrArray(inner)) open.push(inner);
    }
  }
}

function checkName(name: unknown, field: string, file: string): void {
  if (isPlainName(name)) return;
  throw new LockstepError(
    'LS_CHECKPOINT_PATH',
    `expected ${field} in ${file} to name a file of its own folder, got ${JSON.stringify(name ?? null).slice(0, 200)}`,
    { fix: 'Remove the field, or copy the file again from the original checkpoint.', field },
  );
}

function coded(field: string, file: string): LockstepError {
  return new LockstepError(
    'LS_CHECKPOINT_CODE',
    `expected a checkpoint without code of its own, got ${field} in ${file}`,
    {
      fix: `Lockstep never runs code from a checkpoint. If the model does not need it, remove ${field} from the file.`,
      field,
    },
  );
}
