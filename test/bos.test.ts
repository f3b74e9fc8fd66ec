// BOS at position 0: as the tokenizer itself puts it there, and a warning where chats and texts differ.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attach } from '../src/checkpoint/index.ts';
import { fixed } from '../src/policies/index.ts';
import { tinyCheckpoint } from './tiny-checkpoint.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lockstep-bos-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const settings = {
  policy: fixed({ size: 8 }),
  segment: { min: 1, max: 8, align: 1 },
  carry: { size: 4, sinks: 2 },
  retrieval: { size: 0, recipe: 'topk' as const, layers: [] },
  heads: { long: [] },
};
const WRITES = "{{ bos_token }}{{ messages[0]['content'] }}";
const ADDS = {
  type: 'TemplateProcessing',
  single: [
    { SpecialToken: { id: '<|im_start|>', type_id: 0 } },
    { Sequence: { id: 'A', type_id: 0 } },
  ],
  pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { '<|im_start|>': { id: '<|im_start|>', ids: [1], tokens: ['<|im_start|>'] } },
};

interface Case {
  processor?: object;
  config?: object;
  template?: string;
  bos?: boolean;
}

let made = 0;
async function attached({ processor, config = {}, template = WRITES, bos }: Case) {
  const dir = tinyCheckpoint(path.join(root, `model-${++made}`));
  const edit = (name: string, change: object): void => {
    const file = path.join(dir, name);
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
  };
  if (processor !== undefined) edit('tokenizer.json', { post_processor: processor });
  edit('tokenizer_config.json', config);
  writeFileSync(path.join(dir, 'chat_template.jinja'), template);
  const warnings: string[] = [];
  const { contract } = await attach({
    config: { ...settings, bos },
    modelDir: dir,
    out: path.join(root, `out-${made}`),
    warn: ({ code, message }) => warnings.push(`${code}: ${message}`),
  });
  return { bos: contract.tokenizer.bos, warnings };
}

describe('where the config says nothing', () => {
  test.each<[string, Case, number | null]>([
    ['the tokenizer adds it', { processor: ADDS }, 1],
    ['the tokenizer adds none', { template: 'a' }, null],
    ['its settings say yes, its file no', { config: { add_bos_token: true }, template: 'a' }, null],
    ['its settings say no, its file yes', { processor: ADDS, config: { add_bos_token: false } }, 1],
  ])('%s', async (_, given, expected) => {
    expect(await attached(given)).toEqual({ bos: expected, warnings: [] });
  });
});

describe('a warning', () => {
  test('where the template writes BOS and texts begin without it', async () => {
    const { bos, warnings } = await attached({});
    expect(bos).toBeNull();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /^LS_BOS_DIFFERS: the chat template begins with <\|im_start\|> \(id 1\)/,
    );
    expect(warnings[0]).toContain('set `bos: true`');
  });

  test('where a config puts off what the tokenizer adds', async () => {
    const { bos, warnings } = await attached({ processor: ADDS, bos: false });
    expect([bos, warnings.length]).toEqual([null, 1]);
  });

  test.each<[string, Case]>([
    [
      'a template that writes it later',
      { template: "{{ messages[0]['content'] }}{{ bos_token }}" },
    ],
    ['a template that cannot be read', { template: '{% if bos_token %}' }],
    ['texts that begin with it too', { bos: true }],
  ])('never for %s', async (_, given) => {
    expect((await attached(given)).warnings).toEqual([]);
  });
});
