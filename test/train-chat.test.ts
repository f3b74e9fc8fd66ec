// Conversations as training data: the ids of a training are those that the server gives, and
// `lockstep train` reads rows by their format.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findPython } from '../src/bridge/index.ts';
import type { Contract } from '../src/contract/index.ts';
import { packageRoot } from '../src/paths.ts';
import { chatTemplate, type TemplateMessage } from '../src/server/prompt/chat.ts';
import { encodePrompt } from '../src/server/prompt/tokens.ts';
import { toolTemplateFile } from '../src/template/source.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { type TrainRun, trainIn } from './helpers/train.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
const smol = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
let home: string;
let python: string;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

beforeAll(async () => {
  home = temporaryFolder('train-chat');
  python = (await findPython()).executable;
  await tinyModel(path.join(home, 'model'));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const call = (name: string, given: object) => ({
  id: 'c1',
  type: 'function',
  function: { name, arguments: JSON.stringify(given) },
});
const conversations: { messages: TemplateMessage[]; tools?: object[] }[] = [
  {
    messages: [
      { role: 'system', content: 'Be brief.\n\n' },
      { role: 'user', content: 'Hello  there – 你好 👋🏽\r\n' },
      { role: 'assistant', content: 'Hi.\nWhat is it?  ' },
      { role: 'user', content: ' \t<|im_end|> is a token' },
      { role: 'assistant', content: 'So it is' },
    ],
  },
  {
    messages: [
      { role: 'user', content: "What's 2 + 2?" },
      { role: 'assistant', content: '4' },
    ],
  },
];
const withTools = [
  {
    messages: [
      { role: 'user', content: 'Weather in Łódź?' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [call('weather', { city: 'Łódź', days: [1, 2] })],
      },
      { role: 'tool', content: '{"rain": true}' },
      { role: 'assistant', content: 'Rain.' },
    ],
    tools: [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }],
  },
];
const templates: Record<string, string> = {
  llama: `{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>
{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>
{% endif %}`,
  // SmolLM2's tokenizer joins two line ends, but not before a letter.
  twoLines: `{% for m in messages %}{{ m.role }}:\n\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}assistant:\n\n{% endif %}`,
  tools: `{% if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`,
};

const script = `
import json, sys
from pathlib import Path
from lockstep.chat import read_template
from lockstep.chat.encode import Rule
from lockstep.tokenizer.file import load_tokenizer
from lockstep.training import data
folder, root, ends = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
rule = Rule(read_template(folder), "assistant", frozenset(ends), ends[0])
reading = data.ReadOptions(root / "cache", chat=rule)
corpus = data.load(("rows.jsonl",), root, load_tokenizer(folder), 1 << 20, reading)
print(json.dumps([[d.ids_N.tolist(), d.mask_N.tolist()] for d in corpus.documents]))
`;

const marked = `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;
const calling = templates['tools'] as string;
/** Templates for rows with tools, which serving takes for requests with tools. */
const pairs: Record<string, (dir: string) => void> = {
  'a list with tool_use': (dir) => {
    const file = path.join(dir, 'tokenizer_config.json');
    const chat_template = [
      { name: 'tool_use', template: calling },
      { name: 'default', template: marked },
    ];
    writeFileSync(
      file,
      JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), chat_template }),
    );
    rmSync(path.join(dir, 'chat_template.jinja'));
  },
  'a file for tools': (dir) => {
    const file = path.join(dir, toolTemplateFile);
    mkdirSync(path.dirname(file));
    writeFileSync(file, calling);
    writeFileSync(path.join(dir, 'chat_template.jinja'), marked);
  },
};
const instructed: typeof conversations = [
  {
    messages: [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Hi.' },
    ],
  },
];

/** A checkpoint's tokenizer with another template, or its own. */
function folder(name: string, model: string, template?: string): string {
  const dir = path.join(home, name);
  mkdirSync(dir);
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'config.json']) {
    copyFileSync(path.join(model, file), path.join(dir, file));
  }
  const own = path.join(dir, 'chat_template.jinja');
  if (template !== undefined) writeFileSync(own, template);
  else copyFileSync(path.join(model, 'chat_template.jinja'), own);
  return dir;
}

describe('ids', () => {
  it.each([
    ['smollm2', smol, undefined, conversations],
    ['llama-like', smol, templates['llama'], conversations],
    ['two line ends', smol, templates['twoLines'], conversations.slice(1)],
    ['tools', smol, calling, [...conversations, ...withTools]],
    ['developers', smol, marked, instructed],
    ...Object.keys(pairs).map((name): [string, string, undefined, typeof conversations] => [
      name,
      smol,
      undefined,
      [...conversations, ...withTools],
    ]),
    ['bytes', 'model', undefined, conversations],
  ])(
    'of %s: every prompt that is served is a beginning of what is trained',
    async (name, model, template, rows) => {
      const dir = folder(name, path.resolve(home, model), template);
      pairs[name]?.(dir);
      writeFileSync(
        path.join(dir, 'rows.jsonl'),
        rows.map((row) => `${JSON.stringify(row)}\n`).join(''),
      );
      const tokenizer = await loadTokenizer(dir);
      const end = tokenizer.ends[0] as number;
      const out = execFileSync(python, ['-c', script, dir, dir, JSON.stringify([end])], {
        env: { ...env, PYTHONPATH: path.join(packageRoot, 'python') },
      });
      const trained = JSON.parse(out.toString()) as [number[], number[]][];
      expect(trained).toHaveLength(rows.length);
      const served = chatTemplate(tokenizer);
      if (served === null) throw new Error('no template');
      const contract = { tokenizer: { bos: null } } as Contract;
      try {
        for (const [n, row] of rows.entries()) {
          const [ids, mask] = trained[n] as [number[], number[]];
          const starts = mask.flatMap((one, at) => (one === 1 && mask[at - 1] === 0 ? [at] : []));
          const found: number[] = [];
          for (const [at, message] of row.messages.entries()) {
            if (message.role !== 'assistant') continue;
            const text = await served.render(row.messages.slice(0, at), row.tools ?? null);
            const prompt = [...(await encodePrompt(text, tokenizer, contract))];
            expect(ids.slice(0, prompt.length)).toEqual(prompt);
            found.push(prompt.length);
          }
          // An answer counts from the first id behind its prompt on.
          expect(starts).toEqual(found);
          expect(ids.at(-1)).toBe(end);
          expect(mask.at(-1)).toBe(1);
        }
      } finally {
        served.close();
      }
    },
  );
});

function train(data: string, ...args: string[]): Promise<TrainRun> {
  const config = `
    import { defineConfig, sentences } from 'lockstep';
    export default defineConfig({
      model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
      carry: { size: 8 }, retrieval: { size: 8, layers: [1] }, heads: { long: [1] },
      data: { ${data} },
      training: { sequence: 128, batch: 2, steps: 3, heldOutTokens: 128 },
    });`;
  writeFileSync(path.join(home, 'lockstep.config.ts'), config);
  return trainIn(home, '--overwrite', ...args);
}

describe('lockstep train', () => {
  beforeAll(() => {
    const rows = Array.from({ length: 40 }, (_, i) => ({
      messages: [
        { role: 'user', content: `What is ${i} + 1?` },
        { role: 'assistant', content: `${i + 1}.` },
      ],
    }));
    writeFileSync(
      path.join(home, 'chats.jsonl'),
      rows.map((row) => `${JSON.stringify(row)}\n`).join(''),
    );
  });

  it('finds conversations, says what counts, and packs them', async () => {
    const run = await train("train: ['chats.jsonl'], validation: 0.1");
    expect(run.err).toBe('');
    const start = run.events.find((event) => event.event === 'start');
    expect(start).toMatchObject({
      read: { formats: { messages: 1 }, loss: 'assistant', end: '<|endoftext|>' },
    });
    const { read } = start as { read: { tokens: number; targets: number } };
    expect(read.targets).toBeGreaterThan(40);
    expect(read.targets).toBeLessThan(read.tokens / 2);
    const steps = run.events.filter((event) => event.event === 'step');
    // Two sequences of 128 tokens a step, though no conversation has more than 70.
    const [first] = steps;
    expect(first?.tokens).toBeGreaterThan(180);
    expect(first?.tokens).toBeLessThanOrEqual(256);
    const card = readFileSync(path.join(home, 'out', 'README.md'), 'utf8');
    expect(card).toContain('Of conversations what the assistant says counts (');
    expect(card).toContain('Documents end with `<|endoftext|>`.');
    // Another loss is another reading of the data.
    const other = await train(
      "train: ['chats.jsonl'], validation: 0.1, loss: 'all'",
      '--out',
      'all',
    );
    expect(other.events.find((event) => event.event === 'start')).toMatchObject({
      read: { loss: 'all' },
    });
  });

  it('names rows of another format by file and line', async () => {
    const rows = `${readFileSync(path.join(home, 'chats.jsonl'), 'utf8')}{"text": "words alone"}\n`;
    writeFileSync(path.join(home, 'mixed.jsonl'), rows);
    const run = await train("train: ['mixed.jsonl']");
    expect(run.code).toBe(1);
    expect(run.err).toContain('LS_TRAIN_BROKEN');
    expect(run.err).toMatch(
      /mixed\.jsonl, got 1 broken line \(line 41: no field 'messages', but 'text'\)/,
    );
  });

  it('refuses an end that is no token, and options that do not fit', async () => {
    const end = await train("train: ['chats.jsonl'], end: 'the end'");
    expect(end.err).toContain('LS_TRAIN_END');
    const field = await train("train: ['chats.jsonl'], format: 'prompt-completion', field: 'x'");
    expect(field.err).toContain('LS_CONFIG_INVALID');
    expect(field.err).toContain('data.field');
  });
});
