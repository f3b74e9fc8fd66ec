// Which template of a checkpoint renders a chat, what it is shown, and that it goes along.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attach, detach } from '../src/checkpoint/index.ts';
import { fixed } from '../src/policies/index.ts';
import { chatTemplate } from '../src/server/prompt/chat.ts';
import { readTemplates, toolTemplateFile } from '../src/template/source.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { tinyCheckpoint } from './tiny-checkpoint.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lockstep-templates-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
function folder(files: Readonly<Record<string, string>>): string {
  const dir = path.join(root, `folder-${++made}`);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    writeFileSync(path.join(dir, name), text);
  }
  mkdirSync(dir, { recursive: true });
  return dir;
}

const LIST = [
  { name: 'default', template: 'listed' },
  { name: 'rag', template: 'other' },
  { name: 'tool_use', template: 'listed tools' },
];

describe('a checkpoint has', () => {
  test.each<[string, Record<string, string>, unknown, [string | null, string | null]]>([
    ['no template', {}, undefined, [null, null]],
    ['one in its settings', {}, 'one', ['one', null]],
    ['a list of them', {}, LIST, ['listed', 'listed tools']],
    ['a list without one for tools', {}, LIST.slice(0, 1), ['listed', null]],
    ['a list without a usual one', {}, LIST.slice(2), [null, 'listed tools']],
    ['a list that is none', {}, [null, 3, {}], [null, null]],
    ['a file before its settings', { 'chat_template.jinja': 'file' }, LIST, ['file', null]],
    [
      'files for both',
      { 'chat_template.jinja': 'file', [toolTemplateFile]: 'file for tools' },
      LIST,
      ['file', 'file for tools'],
    ],
  ])('%s', async (_, files, value, expected) => {
    const dir = folder(files);
    const { usual, tools } = await readTemplates(dir, { chat_template: value });
    expect([usual?.text ?? null, tools?.text ?? null]).toEqual(expected);
  });
});

const messages = [{ role: 'user', content: 'a' }];
const tools = [{ type: 'function', function: { name: 'f' } }];

describe('a chat', () => {
  test('with tools is rendered by the template for tools, which names its own file', async () => {
    const template = chatTemplate({
      chatTemplate: 'usual {{ tools }}',
      chatTemplateFile: 'one.jinja',
      toolTemplate: {
        text: 'tools {{ tools[0].function.name }}{{ tools[0].x.y }}',
        file: 'two.jinja',
      },
      specialTokens: {},
    });
    try {
      expect(await template?.render(messages)).toBe('usual None');
      const refused = template?.render(messages, tools);
      await expect(refused).rejects.toThrow(/UndefinedError: .* \(two\.jinja, line 1\)/);
    } finally {
      template?.close();
    }
  }, 120_000);

  test('shows numbers, keys and arguments as Python reads them', async () => {
    const template = chatTemplate({
      chatTemplate:
        '{{ tools|tojson }}|{{ level }}|{{ messages[0].tool_calls[0].function.arguments }}',
      chatTemplateFile: 'one.jinja',
      toolTemplate: null,
      specialTokens: { level: 'none' },
    });
    const call = { function: { name: 'f', arguments: '{"b": 1.0, "1": 2512292042121000001}' } };
    const asked = [{ role: 'assistant', content: null, tool_calls: [call] }];
    const body =
      '{"tools": [{"b": 1.50, "1": 2512292042121000001}], "chat_template_kwargs": {"level": 2.0}}';
    try {
      const { tools: shown, chat_template_kwargs: more } = JSON.parse(body);
      expect(await template?.render(asked, shown, more, body)).toBe(
        '[{"b": 1.5, "1": 2512292042121000001}]|2.0|{\'b\': 1.0, \'1\': 2512292042121000001}',
      );
    } finally {
      template?.close();
    }
  }, 120_000);
});

test('both templates go along with attach and detach', async () => {
  const dir = tinyCheckpoint(path.join(root, 'model'));
  mkdirSync(path.join(dir, path.dirname(toolTemplateFile)));
  writeFileSync(path.join(dir, toolTemplateFile), 'for tools');
  const [attached, detached] = [path.join(root, 'attached'), path.join(root, 'detached')];
  const config = {
    policy: fixed({ size: 8 }),
    segment: { min: 1, max: 8, align: 1 },
    carry: { size: 4, sinks: 2 },
    retrieval: { size: 0, recipe: 'topk' as const, layers: [] },
    heads: { long: [] },
  };
  await attach({ config, modelDir: dir, out: attached });
  await detach(attached, detached);
  for (const one of [attached, detached]) {
    expect(readFileSync(path.join(one, toolTemplateFile), 'utf8')).toBe('for tools');
    expect((await loadTokenizer(one)).toolTemplate?.text).toBe('for tools');
  }
}, 60_000);

test('a link out of the folder is refused', async () => {
  const dir = tinyCheckpoint(path.join(root, 'linked'));
  writeFileSync(path.join(root, 'secret'), 'secret');
  mkdirSync(path.join(dir, path.dirname(toolTemplateFile)));
  symlinkSync(path.join(root, 'secret'), path.join(dir, toolTemplateFile));
  await expect(loadTokenizer(dir)).rejects.toMatchObject({ code: 'LS_CHECKPOINT_LINK' });
});
