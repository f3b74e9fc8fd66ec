// Command lines that are refused before anything is read: options without effect, contradictions, words of no use.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  afterAll,
  afterEach,
  beforeEach,
  describe,
  expect,
  it,
  type MockInstance,
  vi,
} from 'vitest';
import { run } from '../src/cli/run.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const root = temporaryFolder('options');
afterAll(() => rmSync(root, { recursive: true, force: true }));

let screens: MockInstance[];
beforeEach(() => {
  screens = [process.stdout, process.stderr].map((one) =>
    vi.spyOn(one, 'write').mockReturnValue(true),
  );
});
afterEach(() => {
  for (const screen of screens) screen.mockRestore();
  process.exitCode = 0;
});

async function lockstep(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  for (const screen of screens) screen.mockClear();
  const code = await run(args);
  const [out = '', error = ''] = screens.map(({ mock }) =>
    mock.calls.map(([text]) => text).join(''),
  );
  return { code, out, error };
}

/** None of these is there: what is refused is refused before. */
const dir = path.join(root, 'absent');
const judged = 'expected --precision int8 or int4 with';

describe('an option without effect', () => {
  it.each<[string[], string]>([
    [['export', dir, '--force'], `${judged} --force, got --precision fp32`],
    [
      ['export', dir, '--max-perplexity-ratio', '1.1'],
      `${judged} --max-perplexity-ratio, got --precision fp32`,
    ],
    [['export', dir, '--text', 'nope.txt'], `${judged} --text, got --precision fp32`],
    [
      ['export', dir, '--precision', 'int8', '--max-perplexity-ratio', 'int8=1.1,int4=1.2'],
      'expected --precision int4 with --max-perplexity-ratio int4=…, got --precision int8',
    ],
    [
      ['serve', dir, '--engine', 'onnx', '--python', '/nope'],
      'expected --engine torch or vllm with --python, got onnx',
    ],
    [['serve', dir, '--host', '0.0.0.0', '--allow-host', 'box'], 'with --allow-host, got 0.0.0.0'],
    [['serve', dir, '--allow-host', 'http://box'], 'got http://box'],
    [['serve', dir, '--max-per-key', '2'], 'expected --keys with --max-per-key, got none'],
    [['plan', 'f', '--python', 'x'], 'expected --runtime python with --python, got --runtime node'],
    [['plan', 'f', '--trace', '--runtime', 'python'], 'expected --runtime node with --trace'],
    [
      ['attach', dir, '--out', 'o', '--discard-training'],
      'expected --force with --discard-training',
    ],
    [['attach', dir, '--upgrade', '--force'], 'expected no --upgrade with --force, got both'],
    [
      ['attach', dir, '--upgrade', '--discard-training'],
      'expected no --upgrade with --discard-training',
    ],
    [['attach', dir, '--out', 'o', '--no-probe', '--python', 'p'], 'with --python, got --no-probe'],
    [
      ['eval', dir, '--attention', 'full', '--engine', 'onnx'],
      '--attention full always runs in torch',
    ],
    [
      ['eval', dir, '--attention', 'segmented', '--engine', 'onnx', '--device', 'cpu'],
      '--device applies only to rows that torch runs',
    ],
    [
      ['verify', dir, '--config', 'c', '--text', 't', '--tokens', '9', '--tolerance', '1'],
      '--config has no effect: --text, --tokens and --tolerance already set everything',
    ],
    [['recall', dir, '--base', 'tiny', '--no-base'], 'expected --base or --no-base, got both'],
    [
      ['eval', dir, '--suite', 'ruler', '--tasks', 'vt,cwe', '--haystack', 'nope.txt'],
      'niah_multiquery with --haystack, got --tasks vt,cwe',
    ],
    [['eval', dir, '--no-base', '--base', 'tiny'], 'expected --base or --no-base, got both'],
    [['serve', dir, '--allow-host', ''], '--allow-host: expected a value, got an empty text'],
    [['keys', 'list', ''], '<file>: expected a value, got an empty text'],
  ])('%j', async (args, words) => {
    const { code, error } = await lockstep(...args);
    expect([code, error]).toEqual([2, expect.stringContaining('error LS_USAGE: ')]);
    expect(error).toContain(words);
    expect(error).toMatch(/\nfix: .+\n$/);
  });

  it('--config of verify, where it says nothing about that', async () => {
    const model = tinyCheckpoint(path.join(root, 'model'));
    const config = path.join(root, 'lockstep.config.ts');
    writeFileSync(
      config,
      `import { defineConfig, fixed } from 'lockstep';
export default defineConfig({ model: '${path.basename(model)}', out: 'o', policy: fixed({ size: 8 }), segment: { max: 8 }, carry: { size: 0 } });
`,
    );
    const { code, error } = await lockstep('verify', dir, '--config', config);
    expect([code, error]).toEqual([2, expect.stringContaining('expected a config with `verify`')]);
  });
});

describe('an option of serve that is wrong in itself is found before a checkpoint is read', () => {
  const vllm = ['--engine', 'vllm'];
  it.each<[string[], string]>([
    [['--trust-proxy', 'banana'], 'LS_SERVE_PROXY'],
    [[...vllm, '--upstream', 'banana'], 'LS_VLLM_UPSTREAM'],
    [[...vllm, '--upstream', 'http://a:1', '--upstream-key', 'NO_SUCH_VARIABLE'], 'LS_USAGE'],
    [[...vllm, '--adapter', 'law'], 'expected --adapter NAME=DIR, got law'],
    [[...vllm, '--adapter', 'a=b', 'a=c'], 'LS_ADAPTER_NAME'],
  ])('%j', async (options, words) => {
    const { code, error } = await lockstep('serve', dir, '--port', '0', ...options);
    expect(code).toBeGreaterThan(0);
    expect(error).toContain(words);
  });
});

describe('help and version', () => {
  it.each<[string[], string]>([
    [['help', 'plam'], 'Did you mean plan?'],
    [['plam', '--help'], 'Did you mean plan?'],
    [['help', 'keys', 'ad'], 'Did you mean add?'],
    [['keys', 'ad', '--help'], 'Did you mean add?'],
    [['help', 'train', 'extra'], 'too many arguments: expected 1, got 2'],
    [['keys', 'help', 'add', 'more'], 'too many arguments: expected 2, got 3'],
    [['-v', 'extra'], 'unknown command extra'],
    [['-v', 'plan'], 'expected --version alone'],
    [['plan', 'x', '--version'], 'expected --version alone'],
  ])('%j is refused', async (args, words) => {
    const { code, out, error } = await lockstep(...args);
    expect([code, out]).toEqual([2, '']);
    expect(error).toMatch(/^error LS_USAGE: .+\nfix: .+\n$/);
    expect(error).toContain(words);
  });

  it('the help of a command below a command, in each way to ask for it', async () => {
    const { code, out } = await lockstep('keys', 'add', '--help');
    expect([code, out]).toEqual([0, expect.stringContaining('Usage: lockstep keys add')]);
    for (const args of [
      ['help', 'keys', 'add'],
      ['keys', 'help', 'add'],
    ]) {
      expect(await lockstep(...args)).toEqual({ code, out, error: '' });
    }
  });

  it('commands below a command stand under one heading', async () => {
    const { out } = await lockstep('keys', '--help');
    expect(out.match(/^[A-Z].*:$/gm)).toEqual(['Options:', 'Commands:']);
    expect(out).toMatch(/Commands:\n[\s\S]*\n {2}help \[command\] /);
    expect((await lockstep('--help')).out).toMatch(/Set up:\n[\s\S]* {2}help \[command\] /);
  });
});

describe('keys', () => {
  it.each<[string[], string]>([
    [
      ['add', path.join(root, 'k.json'), 'amy', '--weight', '1000'],
      'LS_KEYS_LIMIT: expected a weight from 1 to 100, got 1000\nfix: Give --weight',
    ],
    [['add', path.join(root, 'no', 'k.json'), 'amy'], 'fix: Make the folder first: mkdir -p '],
  ])('%j says what to do', async (args, words) => {
    const { code, error } = await lockstep('keys', ...args);
    expect([code, error]).toEqual([1, expect.stringContaining(words)]);
    expect(existsSync(args[1] as string)).toBe(false);
  });
});

it('an error of a full disk is one of the disk, not of Lockstep', async () => {
  const { asLockstepError } = await import('../src/cli/shared/output.ts');
  const error = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', path: '/a/b' });
  expect(asLockstepError(error)).toMatchObject({
    code: 'LS_DISK_FULL',
    message: 'expected free disk space, got none while writing /a/b',
  });
});
