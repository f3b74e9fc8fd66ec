// What a checkpoint may not name: code, and files outside its folder. Both languages, and the tokenizer's
// and the model's readers, say the same.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import { readContract } from '../src/checkpoint/index.ts';
import { checkNames } from '../src/checkpoint-names.ts';
import { readModel } from '../src/contract/model.ts';
import type { LockstepError } from '../src/errors.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

let root: string;
let outside: string;
beforeAll(() => {
  root = temporaryFolder('names');
  outside = path.join(root, 'outside');
  mkdirSync(outside);
  writeFileSync(path.join(outside, 'secret'), '{"secret": true}');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

type Edit = (dir: string) => void;
const set =
  (name: string, fields: object): Edit =>
  (dir) => {
    const file = path.join(dir, name);
    let old: object = {};
    try {
      old = JSON.parse(readFileSync(file, 'utf8'));
    } catch {}
    writeFileSync(file, JSON.stringify({ ...old, ...fields }));
  };
const linked =
  (name: string): Edit =>
  (dir) => {
    rmSync(path.join(dir, name), { force: true });
    symlinkSync(path.join(outside, 'secret'), path.join(dir, name));
  };
const code = { AutoModelForCausalLM: 'modeling.Model' };
const index = 'model.safetensors.index.json';

const refused: Record<string, [code: string, edit: Edit]> = {
  'auto_map in config.json': ['CODE', set('config.json', { auto_map: code })],
  'auto_map of a hub': ['CODE', set('config.json', { auto_map: { AutoConfig: 'who/what--c.C' } })],
  'auto_map in a part': ['CODE', set('config.json', { text_config: { auto_map: code } })],
  'auto_map in tokenizer_config.json': ['CODE', set('tokenizer_config.json', { auto_map: code })],
  'auto_map in generation_config.json': ['CODE', set('generation_config.json', { auto_map: code })],
  'a generation of its own': [
    'CODE',
    set('generation_config.json', { custom_generate: 'who/what' }),
  ],
  'a pipeline of its own': ['CODE', set('config.json', { custom_pipelines: { x: {} } })],
  'an index with ..': ['PATH', set(index, { weight_map: { a: '../outside/secret' } })],
  'an index with an absolute path': ['PATH', set(index, { weight_map: { a: '/etc/passwd' } })],
  'an index with a folder': ['PATH', set(index, { weight_map: { a: 'folder/x.safetensors' } })],
  'an index with a backslash': ['PATH', set(index, { weight_map: { a: '..\\x.safetensors' } })],
  'an index with a number': ['PATH', set(index, { weight_map: { a: 1 } })],
  'another index': ['PATH', set('other.safetensors.index.json', { weight_map: { a: '..' } })],
  'a vocabulary elsewhere': ['PATH', set('tokenizer_config.json', { vocab_file: '/etc/passwd' })],
  'merges elsewhere': ['PATH', set('tokenizer_config.json', { merges_file: '../outside/secret' })],
  'a tokenizer elsewhere': ['PATH', set('tokenizer_config.json', { tokenizer_file: '~/x/y' })],
  'a template that is named as a path': [
    'PATH',
    set('tokenizer_config.json', { chat_template: [{ name: '../../x', template: '' }] }),
  ],
  'a field of a part': ['PATH', set('config.json', { rope_parameters: { table_path: '/x' } })],
  'config.json is a link': ['LINK', linked('config.json')],
  'tokenizer.json is a link': ['LINK', linked('tokenizer.json')],
  'tokenizer_config.json is a link': ['LINK', linked('tokenizer_config.json')],
  'generation_config.json is a link': ['LINK', linked('generation_config.json')],
  'the chat template is a link': ['LINK', linked('chat_template.jinja')],
  'the index is a link': ['LINK', linked(index)],
  'lockstep.json is a link': ['LINK', linked('lockstep.json')],
  'policy.js is a link': ['LINK', linked('policy.js')],
};

/** What people have, and nothing reads. */
const accepted: Record<string, Edit> = {
  'where it once was': set('config.json', { _name_or_path: '/home/me/model' }),
  'no code': set('config.json', { auto_map: null }),
  'an index of its own files': set(index, {
    weight_map: { a: 'model-00001-of-00002.safetensors' },
  }),
  'names of old tokenizers': set('tokenizer_config.json', {
    ...{
      name_or_path: 'who/what',
      special_tokens_map_file: '/home/someone/.cache/x',
      tokenizer_file: null,
    },
  }),
  'a file of its own folder': set('tokenizer_config.json', { vocab_file: 'vocab.json' }),
  'no JSON': (dir) => writeFileSync(path.join(dir, 'generation_config.json'), '{'),
  'a link within the folder': (dir) => {
    renameSync(path.join(dir, 'chat_template.jinja'), path.join(dir, 'template'));
    symlinkSync('template', path.join(dir, 'chat_template.jinja'));
  },
};

const made = (name: string, edit: Edit): string => {
  const dir = tinyCheckpoint(path.join(root, name.replaceAll(/\W/g, '-')));
  edit(dir);
  return dir;
};
const said = (work: Promise<unknown>): Promise<string | null> =>
  work.then(
    () => null,
    (error: LockstepError) => error.code,
  );

describe('checkNames', () => {
  it.each(Object.entries(refused))('refuses: %s', async (name, [code, edit]) => {
    const dir = made(name, edit);
    const wanted = `LS_CHECKPOINT_${code}`;
    expect(await said(checkNames(dir))).toBe(wanted);
    expect(await said(readModel(dir))).toBe(wanted);
    expect(await said(loadTokenizer(dir))).toBe(wanted);
    expect(await said(readContract(dir))).toBe(wanted);
  });

  it.each(Object.entries(accepted))('accepts: %s', async (name, edit) => {
    expect(await said(checkNames(made(name, edit)))).toBeNull();
  });

  it("follows the links of a hub's cache, and no others from there", async () => {
    const repo = path.join(root, 'models--who--what');
    const dir = path.join(repo, 'snapshots', 'abc');
    mkdirSync(path.join(repo, 'blobs'), { recursive: true });
    tinyCheckpoint(dir);
    renameSync(path.join(dir, 'config.json'), path.join(repo, 'blobs', 'f00'));
    symlinkSync('../../blobs/f00', path.join(dir, 'config.json'));
    expect(await said(checkNames(dir))).toBeNull();
    linked('config.json')(dir);
    expect(await said(checkNames(dir))).toBe('LS_CHECKPOINT_LINK');
  });

  it('Python says the same', async () => {
    const { executable } = await findPython();
    const edits = [
      ...Object.entries(refused).map(([name, [code, edit]]) => [
        name,
        edit,
        `LS_CHECKPOINT_${code}`,
      ]),
      ...Object.entries(accepted).map(([name, edit]) => [name, edit, null]),
    ] as [string, Edit, string | null][];
    const folders = edits.map(([name, edit]) => made(`python ${name}`, edit));
    const program = `import json, sys
from lockstep.contract.checkpoint_names import check_names
from lockstep.contract.reader import read
from lockstep.errors import LockstepError
def said(call, folder):
    try: call(folder)
    except LockstepError as error: return error.code
    except Exception as error: return type(error).__name__
print(json.dumps([[said(check_names, f), said(read, f)] for f in json.load(sys.stdin)]))`;
    const options = { input: JSON.stringify(folders), env: pythonEnvironment() };
    const answers = JSON.parse(execFileSync(executable, ['-c', program], options).toString());
    expect(answers.map((one: string[]) => one[0])).toEqual(edits.map(([, , code]) => code));
    // Without a contract, what the check lets pass ends there.
    expect(answers.map((one: string[]) => one[1])).toEqual(
      edits.map(([, , code]) => code ?? 'LS_CONTRACT_MISSING'),
    );
  });
});
