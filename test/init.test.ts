// `lockstep init` from a folder with a model and data: by flags, by what is found, asked on a terminal.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../src/config/index.ts';
import { packageRoot } from '../src/paths.ts';
import { python } from './helpers/python.ts';
import { trainIn } from './helpers/train.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const root = temporaryFolder('init');
afterAll(() => rmSync(root, { recursive: true, force: true }));

const template = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;
const chat = {
  messages: [
    { role: 'user', content: 'Who?' },
    { role: 'assistant', content: 'The miller.' },
  ],
};
/** Which documents are held out is decided by their text: no two alike. */
const conversations = Array.from({ length: 200 }, (_, i) =>
  JSON.stringify({ messages: [{ role: 'user', content: `Who is ${i}?` }, chat.messages[1]] }),
);
const rows = (row: object, count: number): string => `${JSON.stringify(row)}\n`.repeat(count);

let made = 0;
/** A project of its own with a model and these data files. */
function project(files: Readonly<Record<string, string | Uint8Array>>): string {
  const home = path.join(root, `project-${made++}`);
  tinyCheckpoint(path.join(home, 'models', 'tiny'));
  writeFileSync(path.join(home, 'models', 'tiny', 'chat_template.jinja'), template);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(home, name)), { recursive: true });
    writeFileSync(path.join(home, name), content);
  }
  return home;
}

function lockstep(
  cwd: string,
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [cli, ...args], { cwd }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

let chats: string;
beforeAll(() => {
  chats = project({ 'data/chats.jsonl': `${conversations.join('\n')}\n` });
});

it('conversations: found and named, written into the config, and trained by the next command', async () => {
  const { code, stdout, stderr } = await lockstep(chats, 'init');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('data/chats.jsonl (messages)');
  expect(stdout).toContain('next: lockstep train\n');
  const text = readFileSync(path.join(chats, 'lockstep.config.ts'), 'utf8');
  expect(text).toContain("model: 'models/tiny'");
  expect(text).toContain('policy: anyOf(after(sentences(), 384), turns())');
  expect(text).toContain('validation: 0.1');
  const config = await loadConfig(path.join(chats, 'lockstep.config.ts'));
  expect(config).toMatchObject({ out: path.join(chats, 'runs/tiny'), heads: { long: [2] } });
  const run = await trainIn(chats, '--steps', '1');
  expect(run.err).toBe('');
  expect(run.events.at(-1)).toMatchObject({ step: 1, stopped: false });
}, 300_000);

it('names peft where it is not installed: doctor and train', async () => {
  const without = path.join(root, 'without-peft');
  mkdirSync(without);
  writeFileSync(path.join(without, 'peft.py'), "raise ImportError('no peft here')\n");
  const env = { ...process.env, PYTHONPATH: without, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
  const run = (...args: string[]) =>
    new Promise<string>((resolve) => {
      execFile(process.execPath, [cli, ...args], { cwd: chats, env }, (_, stdout) =>
        resolve(stdout),
      );
    });
  const { checks } = JSON.parse(await run('doctor', '--json'));
  expect(checks.find(({ name }: { name: string }) => name === 'peft (Python)')).toMatchObject({
    status: 'optional',
    detail: expect.stringContaining('training.lora'),
    fix: expect.any(String),
  });
  const last = (await run('train', '--steps', '1', '--overwrite', '--json'))
    .trim()
    .split('\n')
    .at(-1);
  expect(JSON.parse(last ?? '')).toMatchObject({ ok: false, error: { code: 'LS_TRAIN_LORA' } });
}, 300_000);

it('refuses to overwrite a config, whatever is in it', async () => {
  const file = path.join(chats, 'mine.config.ts');
  writeFileSync(file, 'mine');
  const { code, stderr } = await lockstep(chats, 'init', '--config', 'mine.config.ts');
  expect(code).toBe(1);
  expect(stderr).toContain('LS_INIT_EXISTS');
  expect(readFileSync(file, 'utf8')).toBe('mine');
});

it.each<[string, Record<string, string | Uint8Array>, string, string]>([
  ['plain texts', { 'texts/a.txt': 'One. Two.', 'texts/b.txt': 'Three.' }, 'text', "'texts/*.txt'"],
  [
    'rows of text, compressed',
    { 'a.jsonl.gz': gzipSync(rows({ text: 'One.' }, 3)) },
    'text',
    "'a.jsonl.gz'",
  ],
  [
    'pairs',
    { 'a.json': JSON.stringify([{ prompt: 'a', completion: 'b' }]) },
    'prompt-completion',
    "'a.json'",
  ],
  ['a table', { 'a.tsv': 'id\tprompt\tcompletion\n1\ta\tb\n' }, 'prompt-completion', "'a.tsv'"],
  ['what the trainer alone reads', { 'a.parquet': 'PAR1' }, 'unknown', "'a.parquet'"],
])('%s, as JSON', async (_, files, format, train) => {
  const home = project(files);
  const { code, stdout } = await lockstep(
    home,
    'init',
    '--json',
    '--out',
    'there',
    '--minutes',
    '3',
  );
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    config: path.join(home, 'lockstep.config.ts'),
    format,
    policy: 'sentences()',
    out: path.join(home, 'there'),
    next: expect.arrayContaining(['lockstep train', 'lockstep serve there']),
  });
  const text = readFileSync(path.join(home, 'lockstep.config.ts'), 'utf8');
  expect(text).toContain(`train: [${train}]`);
  expect(text).toContain('minutes: 3');
});

it.each<[string, Record<string, string>, string[], string]>([
  ['no data', {}, [], 'LS_INIT_DATA'],
  ['data of two kinds', { 'a.jsonl': rows(chat, 1), 'b.txt': 'b' }, [], 'LS_INIT_DATA'],
  [
    'two formats asked for',
    { 'a.jsonl': rows(chat, 1), 'b.txt': 'b' },
    ['--data', 'a.jsonl', 'b.txt'],
    'LS_INIT_FORMAT',
  ],
  ['rows of other fields', { 'a.jsonl': rows({ q: 1 }, 1) }, [], 'LS_INIT_FORMAT'],
  ['rows that are no objects', { 'a.jsonl': '1\n2\n' }, [], 'LS_INIT_FORMAT'],
  ['a file that is not there', {}, ['--data', 'absent.jsonl'], 'LS_INIT_DATA'],
  ['a model that is none', { 'a.txt': 'a' }, ['--model', 'texts'], 'LS_MODEL_MISSING'],
])('%s: refused, and nothing is written', async (_, files, args, code) => {
  const home = project(files);
  const run = await lockstep(home, 'init', '--json', ...args);
  expect(run.code).toBe(1);
  expect(JSON.parse(run.stdout)).toMatchObject({
    ok: false,
    error: { code, fix: expect.any(String) },
  });
  expect(existsSync(path.join(home, 'lockstep.config.ts'))).toBe(false);
});

const binary = Uint8Array.from({ length: 300 }, (_, i) => i % 256);

it.each<[string, Record<string, string | Uint8Array>, string[], number, string]>([
  ['bytes', { 'a.bin': binary }, ['--data', 'a.bin'], 1, 'LS_INIT_DATA: expected text in UTF-8'],
  ['a text with NULs', { 'a.txt': 'a\0b' }, [], 1, 'LS_INIT_DATA: expected text in UTF-8'],
  ['rows in another encoding', { 'a.csv': Uint8Array.of(0x74, 0xe4) }, [], 1, 'LS_INIT_DATA'],
  ['an empty text', { 'a.txt': '' }, [], 1, 'got empty files'],
  ['a pattern without files', {}, ['--data', 'nope*.txt'], 1, 'got none that nope*.txt names'],
  ['a plain folder', { 'texts/a.txt': 'a' }, ['--data', 'texts'], 1, 'got a plain folder: texts'],
  ['all taken out', { 'a.txt': 'a' }, ['--data', 'a.txt', '!*.txt'], 1, 'got none after'],
  ["the data's folder", { 'texts/a.txt': 'a' }, ['--out', 'texts'], 1, 'LS_INIT_OUT'],
  ["the model's folder", { 'a.txt': 'a' }, ['--out', 'models/tiny'], 1, 'LS_INIT_OUT'],
  ["the config's folder", { 'a.txt': 'a' }, ['--out', '.'], 1, 'LS_INIT_OUT'],
  ['a folder of other files', { 'a.txt': 'a', 'b/c.svg': 'c' }, ['--out', 'b'], 1, 'such as c.svg'],
  ['a file', { 'a.txt': 'a', 'b.svg': 'c' }, ['--out', 'b.svg'], 1, 'got a file'],
  ['an endless time', { 'a.txt': 'a' }, ['--minutes', '1e300'], 2, 'at most 10000000'],
  ['another kind of config', { 'a.txt': 'a' }, ['--config', 'n6.json'], 2, 'ends in .ts, .mts'],
])('%s cannot work: refused, and nothing is written', async (_, files, args, status, words) => {
  const home = project(files);
  const before = readdirSync(home).sort();
  const { code, stderr } = await lockstep(home, 'init', ...args);
  expect([code, stderr]).toEqual([status, expect.stringContaining(words)]);
  expect(stderr).toMatch(/\nfix: .+\n$/);
  expect(readdirSync(home).sort()).toEqual(before);
});

it('a pattern is looked at as the trainer resolves it', async () => {
  const home = project({
    'deep/er/a.jsonl': rows(chat, 1),
    'deep/b.jsonl': rows(chat, 1),
    'deep/.hidden.jsonl': 'not looked at',
  });
  const { code, stdout, stderr } = await lockstep(home, 'init', '--data', 'deep/**/?.jsonl');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('deep/**/?.jsonl (messages)');
});

it('a disk that takes no text leaves no empty config', async () => {
  const home = project({ 'a.txt': 'One. Two.' });
  const run = (limit: string) =>
    new Promise<{ code: number; stderr: string }>((resolve) => {
      const script = `${limit}exec "$0" "$@"`;
      execFile(
        'sh',
        ['-c', script, process.execPath, cli, 'init'],
        { cwd: home },
        (error, _, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stderr }),
      );
    });
  const refused = await run('ulimit -f 0; ');
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('LS_INIT_WRITE')]);
  expect(existsSync(path.join(home, 'lockstep.config.ts'))).toBe(false);
  expect((await run('')).code).toBe(0);
});

it('an empty folder: the model is named as what is missing', async () => {
  const home = path.join(root, 'empty');
  mkdirSync(home);
  const { code, stderr } = await lockstep(home, 'init');
  expect(code).toBe(1);
  expect(stderr).toMatch(/LS_INIT_MODEL: .*got none\nfix: Name it: lockstep init --model DIR/);
  expect(readdirSync(home)).toEqual([]);
});

it('conversations without a chat template', async () => {
  const home = project({ 'a.jsonl': rows(chat, 1) });
  rmSync(path.join(home, 'models', 'tiny', 'chat_template.jinja'));
  expect((await lockstep(home, 'init')).stderr).toContain('LS_INIT_TEMPLATE');
});

it('asks on a terminal, and takes what is typed', () => {
  const home = project({ 'a.jsonl': rows(chat, 1), 'b.txt': 'One. Two.' });
  const script = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], sys.argv[2], "init"])
answers = [("Model folder?", "\\n"), ("Data to train on?", "2\\n"), ("trained checkpoint?", "mine\\n")]
shown = ""
while True:
    try:
        shown += os.read(terminal, 4096).decode()
    except OSError:
        break
    # A question ends with its suggestion; only then does it listen.
    if answers and answers[0][0] in shown and "]" in shown.split(answers[0][0])[-1].replace("\\x1b[", ""):
        os.write(terminal, answers.pop(0)[1].encode())
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
  const shown = execFileSync(python, ['-c', script, process.execPath, cli], {
    cwd: home,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
    timeout: 100_000,
  });
  expect(shown).toContain('2 b.txt');
  const text = readFileSync(path.join(home, 'lockstep.config.ts'), 'utf8');
  expect(text).toContain("out: 'mine'");
  expect(text).toContain("train: ['b.txt']");
  expect(text).toContain('policy: sentences()');
});
