import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chatTokenizer, smollm } from '../../../test/helpers/chat.ts';
import { families } from '../../../test/helpers/templates.ts';
import { temporaryFolder, tinyCheckpoint } from '../../../test/tiny-checkpoint.ts';
import { type ContractSettings, makeContract } from '../../checkpoint/make.ts';
import { after, anyOf, definePolicy, sentences, turns } from '../../policies/index.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import { prepareTables } from '../prepare.ts';
import { chatMarks } from './marks.ts';

const root = temporaryFolder('marks');
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
async function tokenizerOf(template: string | null, added: readonly string[] = []) {
  const dir = path.join(root, String(made++));
  mkdirSync(dir);
  return chatTokenizer(dir, template, added);
}

async function textsOf(tokenizer: Tokenizer) {
  const { answer, ends } = await chatMarks(tokenizer);
  const text = (ids: readonly number[]): string =>
    ids.map((id) => tokenizer.vocabulary.text(id)).join('');
  return { answer: answer.map(text), ends: ends.map(text) };
}

describe('marks of', () => {
  it("the real model's template are exactly its ids", async () => {
    const tokenizer = await loadTokenizer(smollm);
    expect(await chatMarks(tokenizer)).toEqual({
      answer: [[...(await tokenizer.encode('<|im_start|>assistant\n'))]],
      ends: [[...(await tokenizer.encode('<|im_end|>\n'))]],
    });
  });

  it.each(Object.entries(families))('%s are its header and its end', async (_, family) => {
    const { answer, ends } = await textsOf(await tokenizerOf(family.template, family.added));
    expect(answer.length).toBeGreaterThan(0);
    for (const text of answer) expect(family.header.endsWith(text.trimStart())).toBe(true);
    for (const text of ends) expect(text).toBe(family.end);
  });

  it('a SentencePiece tokenizer, which puts a space behind special tokens, begin with those', async () => {
    const dir = path.join(root, String(made++));
    mkdirSync(dir);
    writeFileSync(path.join(dir, 'tokenizer.json'), JSON.stringify(sentencePiece()));
    const { template } = families['ChatML'] as { template: string };
    writeFileSync(path.join(dir, 'chat_template.jinja'), template);
    const tokenizer = await loadTokenizer(dir);
    const { answer, ends } = await textsOf(tokenizer);
    expect(answer).toEqual(['<|im_start|> assistant\n']);
    expect(ends).toEqual(['<|im_end|> \n']);
  });

  it('a template with a header in the history alone are that header', async () => {
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}";
    expect(await textsOf(await tokenizerOf(template))).toEqual({
      answer: ['<|im_start|>assistant\n'],
      ends: ['<|im_end|>\n'],
    });
  });

  it('a template that ends answers with a line break alone have no end', async () => {
    const template =
      "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '\\n' }}{% else %}{{ m.content + ' [/Q] ' }}{% endif %}{% endfor %}";
    const { answer, ends } = await textsOf(await tokenizerOf(template));
    expect(answer).toHaveLength(1);
    expect(ends).toEqual([]);
  });
});

describe('refused with LS_POLICY_TURNS:', () => {
  it.each<[string, string | null, RegExp]>([
    ['no template', null, /expected a chat template in .*, got none/],
    [
      'a template that refuses the conversation',
      "{{ raise_exception('Only poems!') }}",
      /renders two turns of a user and an assistant, got: Only poems!/,
    ],
    [
      'a template that leaves messages out',
      "{{ messages[0].content }}{{ 'assistant:' }}",
      /got: a template that leaves a message out/,
    ],
    [
      'a template without a header',
      "{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}",
      /opens each answer with the same tokens, .* got "\\n"/,
    ],
    [
      'a header that changes with the conversation',
      "{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ messages[0].content + ':' }}{% endif %}",
      /opens each answer with the same tokens/,
    ],
  ])('%s', async (_, template, message) => {
    const run = chatMarks(await tokenizerOf(template));
    await expect(run).rejects.toMatchObject({
      code: 'LS_POLICY_TURNS',
      field: 'policy',
      message: expect.stringMatching(message),
      fix: expect.stringMatching(/./),
    });
  });

  it('not a template that cannot be parsed: that is LS_TEMPLATE_SYNTAX', async () => {
    const run = chatMarks(await tokenizerOf('{% for %}'));
    await expect(run).rejects.toMatchObject({ code: 'LS_TEMPLATE_SYNTAX' });
  });
});

describe('makeContract', () => {
  const dir = path.join(root, 'checkpoint');
  const template = (families['ChatML'] as { template: string }).template;
  beforeAll(() => {
    tinyCheckpoint(dir);
    writeFileSync(path.join(dir, 'chat_template.jinja'), template);
  });
  const settings = (policy: ContractSettings['policy']): ContractSettings => ({
    policy,
    segment: { min: 4, max: 32, align: 2 },
    carry: { size: 8, sinks: 4 },
    retrieval: { size: 8, recipe: 'anchors', layers: [1] },
    heads: { long: [0] },
    bos: false,
  });

  it('stores tables and a golden conversation that the policy cuts', async () => {
    const policy = anyOf(after(sentences(), 64), turns());
    const { contract } = await makeContract({ config: settings(policy), modelDir: dir });
    const [, tables] = contract.tables as [unknown, { ids: number[] }];
    expect(tables.ids).toEqual(expect.arrayContaining([1, 2]));
    expect(contract.golden).toHaveLength(4);
    const { tokens = [], boundaries = [] } = contract.golden[3] ?? {};
    const forced = boundaries.filter((cut, i) => cut - (boundaries[i - 1] ?? 0) === 32);
    expect(boundaries.length - forced.length).toBeGreaterThan(2);
    expect(tokens).toEqual(expect.arrayContaining([1, 2]));
  });

  it('renders nothing for a policy that does not ask', async () => {
    writeFileSync(path.join(dir, 'chat_template.jinja'), '{% for %}');
    const { contract } = await makeContract({ config: settings(sentences()), modelDir: dir });
    expect(contract.golden).toHaveLength(3);
    const run = makeContract({ config: settings(turns()), modelDir: dir });
    await expect(run).rejects.toMatchObject({ code: 'LS_TEMPLATE_SYNTAX' });
    writeFileSync(path.join(dir, 'chat_template.jinja'), template);
  });

  it('refuses turns for a checkpoint without a template', async () => {
    rmSync(path.join(dir, 'chat_template.jinja'));
    const run = makeContract({ config: settings(turns()), modelDir: dir });
    await expect(run).rejects.toMatchObject({ code: 'LS_POLICY_TURNS' });
    writeFileSync(path.join(dir, 'chat_template.jinja'), template);
  });

  it("gives the marks to a user's policy too", async () => {
    const own = definePolicy({
      name: 'own-marks',
      prepare: (vocabulary) => ({ first: vocabulary.chat?.().answer[0]?.[0] ?? -1 }),
      push: () => false,
    });
    const { tables, chat } = await prepareTables(own(), await loadTokenizer(dir));
    expect(tables).toEqual({ first: 1 });
    expect(chat?.ends).toHaveLength(1);
  });
});

/** tokenizer.json in Llama 2's manner: letters, bytes for all else, `▁` before each stretch of text. */
function sentencePiece(): object {
  const special = ['<unk>', '<|im_start|>', '<|im_end|>'];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const letters = [...'▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];
  const texts = [...special, ...bytes, ...letters, '▁a', 'ss', '▁ass'];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      ...{ id, content, special: true, normalized: false },
      ...{ single_word: false, lstrip: false, rstrip: false },
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null },
      ...{ end_of_word_suffix: null, fuse_unk: true, byte_fallback: true, ignore_merges: false },
      vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
      merges: [
        ['▁', 'a'],
        ['s', 's'],
        ['▁a', 'ss'],
      ],
    },
  };
}
