import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chatSegments, chatTokenizer, smollm, type Turn } from '../../../test/helpers/chat.ts';
import { segmentsOf } from '../../../test/helpers/policy.ts';
import { families } from '../../../test/helpers/templates.ts';
import { temporaryFolder } from '../../../test/tiny-checkpoint.ts';
import { bundlePolicy } from '../../contract/bundle.ts';
import { prepareTables } from '../../contract/prepare.ts';
import { plan } from '../../planner/index.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import { after } from '../combinators/after.ts';
import { anyOf } from '../combinators/any-of.ts';
import { sentences } from '../sentences/sentences.ts';
import { turns } from './turns.ts';

const root = temporaryFolder('turns');
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
function folder(): string {
  const dir = path.join(root, String(made++));
  mkdirSync(dir);
  return dir;
}

/** Contents that end and begin with what tokenizers merge with a neighbour. */
const chats: Record<string, Turn[]> = {
  plain: [
    { role: 'user', content: 'Where is the key' },
    { role: 'assistant', content: 'In the drawer.' },
    { role: 'user', content: 'Thank you' },
    { role: 'assistant', content: 'Gladly' },
    { role: 'user', content: 'And the door?' },
  ],
  'white space, marks, other scripts': [
    { role: 'user', content: '\n\n"Key?"' },
    { role: 'assistant', content: '1984.' },
    { role: 'user', content: '鍵は？' },
    { role: 'assistant', content: '(é)' },
    { role: 'user', content: 'assistant: [INST' },
  ],
};

describe.each(Object.entries(families))('%s', (_, { template, added, header, end }) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await chatTokenizer(folder(), template, added);
  });

  it.each(Object.entries(chats))('cuts a chat (%s) around its answers', async (_, chat) => {
    const segments = await chatSegments(turns(), tokenizer, chat, true);
    // question and header, answer and end, question and header, answer and end, question and header
    const opens = segments.filter((_, i) => i % 2 === 0);
    const answers = segments.filter((_, i) => i % 2 === 1);
    expect(opens.slice(0, 3).map((text) => text.endsWith(header))).toEqual([true, true, true]);
    expect(answers.slice(0, 2).map((text) => text.endsWith(end))).toEqual([true, true]);
    expect(answers[0]).toContain(chat[1]?.content);
    expect(answers[1]).toContain(chat[3]?.content);
    expect(opens[2]).toContain(chat[4]?.content);
    // What the prompt opens behind the header, such as a thought, holds no cut.
    expect(segments.slice(5).join('')).toBe(
      template.includes("'<|im_start|>assistant\\n<think>") ? '<think>\n' : '',
    );
  });
});

describe("the real model's template", () => {
  let tokenizer: Tokenizer;
  const load = async (): Promise<Tokenizer> => {
    tokenizer ??= await loadTokenizer(smollm);
    return tokenizer;
  };

  it('is cut after headers of answers and ends of answers, not at other ends', async () => {
    const chat = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'What is it? <b>' },
      { role: 'assistant', content: 'A cat.\n' },
      { role: 'user', content: 'assistant\n' },
    ];
    expect(await chatSegments(turns(), await load(), chat, true)).toEqual([
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is it? <b><|im_end|>\n<|im_start|>assistant\n',
      'A cat.\n<|im_end|>\n',
      '<|im_start|>user\nassistant\n<|im_end|>\n<|im_start|>assistant\n',
    ]);
    expect(await chatSegments(turns(), await load(), chat, false)).toHaveLength(3);
  });

  it('asks for nothing in a text without a conversation', async () => {
    const text = [{ role: 'user', content: 'The assistant\nsaid: assistant.' }];
    expect(await chatSegments(turns(), await load(), text, false)).toHaveLength(1);
  });

  it('asks on where a header comes too early, until its answer ends', async () => {
    const { tables } = await prepareTables(turns(), await load());
    const { source } = await bundlePolicy(turns());
    const text =
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\none two three four five six seven eight nine<|im_end|>\n<|im_start|>user\nthe key';
    const ids = [...(await tokenizer.encode(text))];
    const at = async (part: string): Promise<number> =>
      (await tokenizer.encode(text.slice(0, text.indexOf(part) + part.length))).length;
    const header = await at('assistant\n');
    const end = await at('nine<|im_end|>\n');
    const planned = (min: number): number[] =>
      plan(
        {
          contract: {
            policy: { name: 'turns' },
            tables,
            segment: { min, max: 512, align: 1 },
            tokenizer: { size: tokenizer.vocabulary.size },
          },
          policySource: source,
        },
        ids,
      );
    expect(planned(header)).toEqual([header, end]);
    // Three tokens into the answer; its end is then too near.
    expect(planned(header + 3)).toEqual([header + 3]);
    expect(planned(end)).toEqual([end]);
    // Nothing stands open in the next question.
    expect(planned(end + 1)).toEqual([]);
    expect(ids.length).toBeGreaterThan(end + 3);
  });

  it.each([
    [64, [8, 16, 32, 64, 128, 192]],
    [16, [8, 16, 32, 48, 64, 80]],
    [3, [3, 6, 9, 12, 15, 18]],
  ])('cuts inside an answer too: turns({ again: %i })', async (again, lengths) => {
    const policy = turns({ again });
    const { tables } = await prepareTables(policy, await load());
    const { source } = await bundlePolicy(policy);
    const header = [
      ...(await tokenizer.encode('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n')),
    ];
    const words = [...(await tokenizer.encode(' key'.repeat(200)))];
    const cuts = plan(
      {
        contract: {
          policy: { name: 'turns' },
          tables,
          segment: { min: 1, max: 512, align: 1 },
          tokenizer: { size: tokenizer.vocabulary.size },
        },
        policySource: source,
      },
      [...words, ...header, ...words],
    );
    const opens = words.length + header.length;
    expect(cuts.slice(0, 7)).toEqual([opens, ...lengths.map((length) => opens + length)]);
  });

  it('refuses what is no number of tokens', () => {
    expect(() => turns({ again: -1 })).toThrow(
      expect.objectContaining({ code: 'LS_POLICY_PARAMS' }),
    );
  });

  it('composes: sentences in what is read, a cut before the answer', async () => {
    const policy = anyOf(after(sentences(), 12), turns());
    const chat = [
      { role: 'system', content: 'Be brief.' },
      {
        role: 'user',
        content: 'It was so. The key of the old house lay in the third drawer. Where is the key?',
      },
    ];
    expect(await chatSegments(policy, await load(), chat, true)).toEqual([
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nIt was so.',
      ' The key of the old house lay in the third drawer.',
      ' Where is the key?<|im_end|>\n<|im_start|>assistant\n',
    ]);
  });
});

it('says what it needs where a vocabulary has no chat', () => {
  expect(() => segmentsOf(turns(), ['a'])).toThrow(
    'turns needs a vocabulary that has a chat template',
  );
});
