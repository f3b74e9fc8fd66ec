// `lockstep profile` as a user runs it: real processes, a tiny model, real text.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeContract } from '../src/checkpoint/index.ts';
import { type HeadsFile, headsText } from '../src/cli/profile/heads-file.ts';
import { headsSvg } from '../src/cli/profile/heads-svg.ts';
import { loadConfig } from '../src/config/index.ts';
import { packageRoot } from '../src/paths.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const run = promisify(execFile);
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
let home: string;

/** The config of a user: its heads come from the file that profile writes. */
const config = (heads: string, data = "{ train: ['texts/*.txt'] }"): string => `
import { defineConfig, sentences } from 'lockstep';
import chosen from './${heads}' with { type: 'json' };
export default defineConfig({
  model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
  carry: { size: 8 }, retrieval: { size: 8, ...chosen.retrieval }, heads: chosen.heads,
  data: ${data}, training: { steps: 2 },
});
`;
const counts = ['--heads', '3', '--layers', '2'];
const sizes = ['--segment', '24', '--carry', '8', '--sinks', '2', '--length', '96'];
const measure = [...counts, '--data', 'texts/*.txt'];

beforeAll(async () => {
  home = temporaryFolder('profile');
  await tinyModel(path.join(home, 'model'));
  mkdirSync(path.join(home, 'texts'));
  copyFileSync(path.join(packageRoot, 'LICENSE'), path.join(home, 'texts', 'license.txt'));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** Run `lockstep profile model …args` in the home folder. */
async function profile(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  try {
    const { stdout } = await run(process.execPath, [cli, 'profile', 'model', ...args], {
      cwd: home,
      env,
    });
    return { code: 0, out: stdout, err: '' };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}

const read = (name: string): HeadsFile =>
  JSON.parse(readFileSync(path.join(home, name), 'utf8')) as HeadsFile;
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

describe('lockstep profile', () => {
  test('a rule writes a file that a config imports and a contract takes', async () => {
    const { code, out, err } = await profile(...counts, '--method', 'even', '--out', 'even.json');
    expect(code, err).toBe(0);
    expect(out).toContain("import even from './even.json' with { type: 'json' };");
    const file = read('even.json');
    expect(file).toMatchObject({
      kind: 'lockstep heads',
      method: 'even',
      heads: { long: [[], [0, 1], [], [0]] },
      retrieval: { layers: [1, 3] },
      scores: null,
    });
    const weights = readFileSync(path.join(home, 'model', 'model.safetensors'));
    expect(file.model).toEqual({
      name: 'model',
      sha256: sha256(JSON.stringify({ 'model.safetensors': sha256(weights) })),
    });
    const written = path.join(home, 'lockstep.config.ts');
    writeFileSync(written, config('even.json'));
    const loaded = await loadConfig(written);
    expect(loaded.heads).toEqual(file.heads);
    expect(loaded.retrieval).toEqual({ size: 8, recipe: 'anchors', layers: [1, 3] });
    const { contract } = await makeContract({ config: loaded, modelDir: loaded.model });
    expect(contract.heads.long).toEqual(file.heads.long);
    expect(contract.retrieval.layers).toEqual([1, 3]);
  });

  test('gates: stopped by Ctrl-C, the same command resumes and writes the same file', async () => {
    const args = [...measure, ...sizes, '--retrieval', '16', '--steps', '12'];
    const whole = await profile(...args, '--out', 'whole.json');
    expect(whole.code, whole.err).toBe(0);
    const stopped = await stopAfter(2, [...args, '--out', 'parts.json']);
    expect(stopped).toBe(130);
    expect(existsSync(path.join(home, 'parts.json'))).toBe(false);
    expect(readdirSync(home)).toContain('.parts.json.partial');
    const { code, out, err } = await profile(...args, '--out', 'parts.json', '--json');
    expect(code, err).toBe(0);
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { done?: number });
    expect(Math.max(...lines.map((event) => event.done ?? 0))).toBe(12);
    expect(lines.find((event) => event.done)?.done).toBeGreaterThanOrEqual(2);
    expect(readFileSync(path.join(home, 'parts.json'), 'utf8')).toBe(
      readFileSync(path.join(home, 'whole.json'), 'utf8'),
    );
    expect(readdirSync(home).filter((name) => name.includes('.parts.json'))).toEqual([]);
    const file = read('whole.json');
    expect(file.curve).toHaveLength(12);
    expect(file.scores?.[0]).toEqual([0, 0]);
    expect(
      file.scores
        ?.slice(1)
        .flat()
        .every((gate) => gate > 0 && gate < 1),
    ).toBe(true);
    expect(file.heads.long.flat()).toHaveLength(3);
    expect(file).toMatchObject({
      settings: { length: 96, seed: 0, steps: 12, penalty: 0.05 },
      execution: { segment: { max: 24 }, carry: { size: 8, sinks: 2 }, retrieval: { size: 16 } },
      data: { files: ['texts/*.txt'], tokens: 12 * 96 },
    });
  }, 600_000);

  test('mass, segmented and fed as a config says; its picture', async () => {
    await profile(...counts, '--method', 'first', '--out', 'heads.json');
    const text = readFileSync(path.join(packageRoot, 'LICENSE'), 'utf8');
    const rows = [1, 2, 3, 4].map((n) => JSON.stringify({ body: `${n}. ${text}` }));
    writeFileSync(path.join(home, 'rows.jsonl'), rows.join('\n'));
    const data = "{ train: ['rows.jsonl'], field: 'body', validation: 0.3 }";
    writeFileSync(path.join(home, 'own.config.ts'), config('heads.json', data));
    const args = [...counts, '--config', 'own.config.ts', '--sequences', '2', '--method', 'mass'];
    const { code, out, err } = await profile(...args, '--plot', 'mass.svg');
    expect(code, err).toBe(0);
    expect(out).toMatch(/layer +\d+ {2}heads \d 0\.\d{3}/);
    const file = read('heads.json');
    expect(file.method).toBe('mass');
    expect(file.execution).toMatchObject({ policy: 'sentences', segment: { max: 32 } });
    expect(file.data?.files).toEqual(['rows.jsonl']);
    const scores = (file.scores ?? []).flat();
    expect(scores.every((share) => share > 0 && share < 1)).toBe(true);
    const svg = readFileSync(path.join(home, 'mass.svg'), 'utf8');
    expect(svg.match(/class="long"/g)).toHaveLength(3 + 1);
    expect((await loadConfig(path.join(home, 'own.config.ts'))).heads).toEqual(file.heads);
  }, 300_000);

  test.each([
    [['--method', 'even', '--heads', '9', '--layers', '2'], 1, 'LS_PROFILE_HEADS'],
    [['--method', 'even', '--heads', '4', '--layers', '4'], 1, 'LS_PROFILE_LAYERS'],
    [['--method', 'even', ...measure], 2, 'LS_USAGE: expected no --data'],
    [['--method', 'mass', ...measure, '--steps', '3'], 2, 'LS_USAGE: expected no --steps'],
    [[...counts], 2, 'LS_USAGE: expected texts'],
    [[...counts, '--config', 'c.ts', '--carry', '3'], 2, 'LS_USAGE: expected no --carry'],
    [[...measure, ...sizes.slice(0, -1), '1024'], 1, 'LS_PROFILE_LENGTH'],
    [[...counts, '--method', 'even', '--out', 'model/config.json'], 1, 'LS_PROFILE_OUT'],
    [[...counts, '--method', 'even', '--plot', 'x.png'], 1, 'LS_PROFILE_PLOT'],
  ])('%j is refused', async (args, code, message) => {
    const result = await profile(...args);
    expect(result.err).toContain(message);
    expect(result.err).not.toContain('    at ');
    expect(result.code).toBe(code);
  });

  test('gates with blocks, from options and from a config in which every head carries', async () => {
    const args = ['--steps', '2', '--retrieval', '32'];
    const options = [...measure, ...sizes, ...args, '--recipe', 'blocks'];
    const first = await profile(...options, '--out', 'blocks.json');
    expect(first.code, first.err).toBe(0);
    expect(read('blocks.json').execution?.['retrieval']).toEqual({
      ...{ size: 32, recipe: 'blocks', block: 32, distance: 128, window: 64 },
    });
    const text = config('blocks.json')
      .replace('carry: { size: 8 }', "carry: { size: 8, heads: 'all' }")
      .replace('retrieval: { size: 8,', "retrieval: { size: 32, recipe: 'blocks', window: 16,");
    writeFileSync(path.join(home, 'carrying.config.ts'), text);
    const second = ['--config', 'carrying.config.ts', '--out', 'carrying.json'];
    const { code, err } = await profile(...counts, ...args, ...second);
    expect(code, err).toBe(0);
    expect(read('carrying.json').execution).toMatchObject({
      carry: { size: 8, heads: 'all' },
      retrieval: { recipe: 'blocks', window: 16 },
    });
  }, 300_000);

  test('without texts it leaves no folder behind', async () => {
    expect((await profile(...counts, '--method', 'even', '--out', 'none.json')).code).toBe(0);
    const text = config('none.json').replace(/\n +data: .*,/, '\n ');
    writeFileSync(path.join(home, 'none.config.ts'), text);
    const { err } = await profile(...counts, '--config', 'none.config.ts', '--out', 'left.json');
    expect(err).toContain('LS_CONFIG_INVALID: expected data.train');
    expect(readdirSync(home).filter((name) => name.includes('left'))).toEqual([]);
  });

  test.each([
    ['truncation', (text: string) => text.replace('steps: 2', 'steps: 2, truncation: 2')],
    [
      'parameters of the policy',
      (text: string) => text.replace('sentences()', "sentences({ abbreviations: ['Mr'] })"),
    ],
  ])('gates measured with another %s are not resumed from', async (name, change) => {
    expect((await profile(...counts, '--method', 'even', '--out', 'first.json')).code).toBe(0);
    const file = path.join(home, 'gates.config.ts');
    writeFileSync(file, config('first.json'));
    const out = ['--out', `${name.split(' ')[0]}.json`];
    const args = [
      ...counts,
      '--config',
      'gates.config.ts',
      '--length',
      '96',
      '--steps',
      '12',
      ...out,
    ];
    expect(await stopAfter(2, args)).toBe(130);
    writeFileSync(file, change(config('first.json')));
    const { code, out: printed, err } = await profile(...args, '--json');
    expect(code, err).toBe(0);
    const begun = printed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { stage?: string; done?: number })
      .find(({ stage }) => stage === 'gates');
    expect(begun?.done).toBe(0);
  });
});

/** Start `lockstep profile`, send SIGINT at step `n`, many before the last; its exit code. */
function stopAfter(n: number, args: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [cli, 'profile', 'model', ...args, '--json'], {
    cwd: home,
    env,
  });
  let rest = '';
  child.stdout.on('data', (data: Buffer) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop() ?? '';
    if (lines.some((line) => (JSON.parse(line) as { done?: number }).done === n)) {
      child.kill('SIGINT');
    }
  });
  return new Promise((resolve) => child.once('close', resolve));
}

describe('the file and its picture', () => {
  const file: HeadsFile = {
    kind: 'lockstep heads',
    method: 'gates',
    model: { name: 'a<b', sha256: 'x' },
    heads: { long: [[], [1], [0, 1]] },
    retrieval: { layers: [1, 2] },
    scores: [
      [0, 0],
      [0.12345678, 0.9],
      [0.5, 1],
    ],
  };

  test('one layer a line, six digits', () => {
    const text = headsText(file);
    expect(text).toContain('    [0.123457,0.9],\n    [0.5,1]\n');
    expect(JSON.parse(text)).toMatchObject({ heads: file.heads, retrieval: file.retrieval });
  });

  test('cells as strong as their score, long ones framed, text escaped', () => {
    const svg = headsSvg(file);
    expect(svg).toContain('a&lt;b');
    expect(svg.match(/<title>/g)).toHaveLength(6);
    expect(svg.match(/, long<\/title>/g)).toHaveLength(3);
    expect(svg).toMatch(/layer 1, head 1: 0\.9, long.*fill-opacity="0\.900"/);
    expect(headsSvg({ ...file, scores: null, method: 'first' })).toContain('no scores');
  });
});
