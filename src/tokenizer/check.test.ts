import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder, tinyCheckpoint, tinyTokenizer } from '../../test/tiny-checkpoint.ts';
import { findPython, pythonEnvironment } from '../bridge/index.ts';
import type { LockstepError } from '../errors.ts';
import { builtModule } from '../paths.ts';
import { patternName, patternProblem, rules } from './pattern.ts';
import { loadTokenizer } from './tokenizer.ts';

/** Patterns of public tokenizers. */
const used = {
  'GPT-2': String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  'Llama 3': String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  'Qwen 2 and 3': String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  'DeepSeek V3 numbers': String.raw`\p{N}{1,3}`,
  'DeepSeek V3 Chinese': '[一-龥぀-ゟ゠-ヿ]+',
  'DeepSeek V3': String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_${'`'}{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  Falcon: '[0-9][0-9][0-9]',
  Bloom: String.raw` ?[^(\s|[.,!?…。，、।۔،])]+`,
  ...rules.patterns,
};

/** Patterns that explode, or that are not understood. */
const refused = [
  ...['(x+x+)+y', '(a*)*b', '(a|a)+$', '(a|aa)+$', '(.*a){20}', 'a*a*b', String.raw`\s+$`, 'a+b'],
  ...[
    String.raw`\s+(?!\S)`,
    String.raw`\s+(?!\S)| |\s+`,
    String.raw`(a)\1`,
    String.raw`(?<n>a|b\g<n>)`,
  ],
  ...[
    '(?>a+)b',
    '(?~a)',
    '(?(?=a)b|c)',
    'a{2}{3}',
    'a{1,2}+',
    'a++*',
    '(?=a+)',
    '(?:a?){30}',
    '(?i)a',
  ],
  ...['[]a]', '[a', 'a)', '(a', String.raw`\p`, '*a', 'a{', String.raw`\X`, 'a{5,2}', 'a{1,20000}'],
  ...[
    'a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaa',
    'x'.repeat(5000),
    'a*b+',
    '(?=a)*',
    '^*',
    '(((((a)))))',
  ],
];

let dir: string;
let python: string;
beforeAll(async () => {
  dir = temporaryFolder('tokenizers');
  python = (await findPython()).executable;
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));
afterEach(() => {
  delete process.env['LOCKSTEP_TRUST_PATTERNS'];
});

/** What Python says of patterns: a problem or null, each. */
function inPython(patterns: readonly string[]): (string | null)[] {
  const code =
    'import json, sys; from lockstep.tokenizer.pattern import pattern_problem as p; print(json.dumps([p(x) for x in json.load(sys.stdin)]))';
  const input = JSON.stringify(patterns);
  const options = { input, env: pythonEnvironment(), encoding: 'utf8' } as const;
  return JSON.parse(execFileSync(python, ['-c', code], options));
}

describe('patternProblem', () => {
  it.each(Object.entries(used))('lets the pattern of %s run', (_, pattern) => {
    expect(patternProblem(pattern)).toBeNull();
  });

  it.each(refused)('refuses %s', (pattern) => {
    expect(patternProblem(pattern)).toMatch(/./);
  });

  it('says the same in Python, of these and of random ones', () => {
    const part = fc.constantFrom(
      ...['a', '.', ' ', '[ab]', '[^a]', '[', ']', '(', '(?:', '(?i:', '(?=', '(?!', ')', '|', '*'],
      ...[
        '+',
        '?',
        '{1,3}',
        '{2}',
        '{,4}',
        '{2,}',
        '{',
        '}',
        '\\s',
        '\\S',
        '\\p{L}',
        '\\x41',
        '\\b',
      ],
      ...['\\s+(?!\\S)', '\\s+', '\\1', '\\', '^', '$', '日', '😀', '[\\[]', '[a[b]&&c]'],
    );
    const random = fc.sample(
      fc.array(part, { minLength: 1, maxLength: 9 }).map((parts) => parts.join('')),
      { numRuns: 5000, seed: 11 },
    );
    const all = [...Object.values(used), ...refused, ...random];
    const here = all.map((pattern) => patternProblem(pattern));
    expect(here.filter((problem) => problem === null).length).toBeGreaterThan(300);
    expect(inPython(all)).toEqual(here);
  });
});

type Json = Record<string, unknown> & { model: Record<string, unknown> };
const split = (Regex: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
});
const token = (id: unknown, content: unknown) => ({
  ...{ id, content, single_word: false, lstrip: false, rstrip: false },
  ...{ normalized: true, special: false },
});

/** tokenizer.json files that stop a process or flood its memory, or are none. */
const edits: Record<string, [code: string, edit: (json: Json) => unknown]> = {
  'a pattern that explodes': [
    'PATTERN',
    (json) => Object.assign(json, { pre_tokenizer: split('(x+x+)+y') }),
  ],
  'a pattern in a normalizer, which may match nothing': [
    'UNSUPPORTED',
    (json) =>
      Object.assign(json, {
        normalizer: { type: 'Replace', pattern: { Regex: 'x*' }, content: 'x' },
      }),
  ],
  'pieces of length 0': [
    'UNSUPPORTED',
    (json) => Object.assign(json, { pre_tokenizer: { type: 'FixedLength', length: 0 } }),
  ],
  'a precompiled table': [
    'UNSUPPORTED',
    (json) =>
      Object.assign(json, {
        normalizer: {
          type: 'Precompiled',
          precompiled_charsmap: 'CAAAAP//////////YWJjAA==',
        },
      }),
  ],
  'an empty prefix': [
    'UNSUPPORTED',
    (json) => Object.assign(json, { normalizer: { type: 'Prepend', prepend: '' } }),
  ],
  'a replacement by nothing': [
    'UNSUPPORTED',
    (json) =>
      Object.assign(json, {
        normalizer: { type: 'Replace', pattern: { String: 'x' }, content: '' },
      }),
  ],
  'a replacement of nothing': [
    'UNSUPPORTED',
    (json) =>
      Object.assign(json, {
        normalizer: { type: 'Replace', pattern: { String: '' }, content: 'x' },
      }),
  ],
  'a prefix of subwords': [
    'UNSUPPORTED',
    (json) => Object.assign(json.model, { continuing_subword_prefix: '####################' }),
  ],
  dropout: ['UNSUPPORTED', (json) => Object.assign(json.model, { dropout: 0.1 })],
  'another model': ['UNSUPPORTED', (json) => Object.assign(json.model, { type: 'WordPiece' })],
  'an id beyond reason': [
    'SIZE',
    (json) => Object.assign(json, { added_tokens: [token(4294967290, 'x')] }),
  ],
  'an id that is none': [
    'SIZE',
    (json) => Object.assign(json, { added_tokens: [token(1.5, 'x')] }),
  ],
  'an added token without text': [
    'SIZE',
    (json) => Object.assign(json, { added_tokens: [token(1, '')] }),
  ],
  'an added token of two megabytes': [
    'SIZE',
    (json) => Object.assign(json, { added_tokens: [token(1, 'x'.repeat(2 ** 21))] }),
  ],
};

describe('loadTokenizer', () => {
  const write = (name: string, json: object | string): string => {
    const folder = tinyCheckpoint(path.join(dir, name.replaceAll(' ', '-')));
    const text = typeof json === 'string' ? json : JSON.stringify(json);
    writeFileSync(path.join(folder, 'tokenizer.json'), text);
    return folder;
  };
  const edited = (name: string): string => {
    const json = tinyTokenizer() as Json;
    edits[name]?.[1](json);
    return write(name, json);
  };

  it.each(Object.entries(edits))('refuses %s', async (name, [code]) => {
    const error = await loadTokenizer(edited(name)).catch((error: LockstepError) => error);
    expect(error).toMatchObject({ code: `LS_TOKENIZER_${code}` });
  });

  it('says the same in Python', () => {
    const folders = Object.keys(edits).map(edited);
    const code = `import json, sys
from lockstep.errors import LockstepError
from lockstep.tokenizer.file import load_tokenizer
def said(folder):
    try: load_tokenizer(folder)
    except LockstepError as error: return [error.code, error.field]
print(json.dumps([said(folder) for folder in json.load(sys.stdin)]))`;
    const input = JSON.stringify(folders);
    const options = { input, env: pythonEnvironment(), encoding: 'utf8' } as const;
    const said = JSON.parse(execFileSync(python, ['-c', code], options)) as [string, string][];
    expect(said.map((one) => one[0])).toEqual(
      Object.values(edits).map(([code]) => `LS_TOKENIZER_${code}`),
    );
  });

  it('hands over what was checked, not another part of the same name', async () => {
    const text = JSON.stringify({ ...tinyTokenizer(), pre_tokenizer: 'HERE' });
    const evil = JSON.stringify(split('(x+x+)+y'));
    const good =
      '{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}';
    const folder = write('twice', text.replace('"HERE"', `${evil},"pre_tokenizer":${good}`));
    const tokenizer = await loadTokenizer(folder);
    expect((await tokenizer.encode('x'.repeat(40))).length).toBe(40);
  });

  it('takes a pattern that the operator names, and no other', async () => {
    const folder = write('trusted', { ...tinyTokenizer(), pre_tokenizer: split('(x+x+)+y') });
    const error = await loadTokenizer(folder).catch((error: LockstepError) => error);
    const name = patternName('(x+x+)+y');
    expect((error as LockstepError).fix).toContain(`LOCKSTEP_TRUST_PATTERNS=${name}`);
    process.env['LOCKSTEP_TRUST_PATTERNS'] = `other, ${name}`;
    expect((await (await loadTokenizer(folder)).encode('xy')).length).toBe(2);
  });

  it('without the check, a short text ends the whole process: the reason for it', async () => {
    const folder = write('explodes', { ...tinyTokenizer(), pre_tokenizer: split('(x+x+)+y') });
    const program = `
      const { loadTokenizer } = await import(${JSON.stringify(builtModule('tokenizer/tokenizer.js').href)});
      const tokenizer = await loadTokenizer(${JSON.stringify(folder)});
      await tokenizer.encode('${'x'.repeat(24)}');`;
    const run = (env: NodeJS.ProcessEnv) =>
      spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        env,
        encoding: 'utf8',
      });
    const trusting = { ...process.env, LOCKSTEP_TRUST_PATTERNS: patternName('(x+x+)+y') };
    const trusted = run(trusting);
    expect([trusted.signal ?? trusted.status]).toEqual(['SIGABRT']);
    const checked = run(process.env);
    expect(checked.signal).toBeNull();
    expect(checked.stderr).toContain('LS_TOKENIZER_PATTERN');
  });

  it('the rules are one file for both languages', () => {
    mkdirSync(dir, { recursive: true });
    const code =
      'from lockstep.tokenizer.pattern import RULES; import json; print(json.dumps(RULES))';
    const printed = execFileSync(python, ['-c', code], { env: pythonEnvironment() });
    expect(JSON.parse(printed.toString())).toEqual(rules);
    expect(readFileSync(path.join(edited('dropout'), 'tokenizer.json'), 'utf8')).toContain('0.1');
  });
});
