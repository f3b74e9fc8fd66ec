// The built command, as a user runs it: real processes, files, pipes and exit codes.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { violationsOfFiles } from './helpers/accessibility.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const root = temporaryFolder('cli');
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = `
import { anyOf, defineConfig, fixed, paragraphs } from 'lockstep';
export default defineConfig({
  model: './model',
  out: './out',
  policy: anyOf(paragraphs(), fixed({ size: 24 })),
  segment: { min: 4, max: 32 },
  carry: { size: 8 },
  retrieval: { size: 8, layers: [1] },
  heads: { long: [0] },
});
`;

beforeAll(async () => {
  tinyCheckpoint(path.join(root, 'model'));
  writeFileSync(path.join(root, 'lockstep.config.ts'), config);
  const { code, stderr } = await lockstep('attach', 'model', '--out', 'checkpoint');
  expect(stderr).toBe('');
  expect(code).toBe(0);
});

interface Run {
  code: number;
  stdout: string;
  stderr: string;
}

function lockstep(...args: string[]): Promise<Run> {
  return run(args, {});
}

function run(args: string[], env: NodeJS.ProcessEnv): Promise<Run> {
  return new Promise((resolve) => {
    const options = { cwd: root, env: { ...process.env, ...env }, maxBuffer: 1 << 28 };
    execFile(process.execPath, [cli, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

function text(name: string, content: string | Uint8Array): string {
  writeFileSync(path.join(root, name), content);
  return name;
}

const story = 'It was night.\n\nThe wind <blew> & the door shut; nobody came in. Ça alors! 😀\n\n'
  .repeat(9)
  .concat('The end');

describe('lockstep plan', () => {
  test('--json gives tokens, boundaries and digest; both sources and both runtimes agree', async () => {
    const file = text('story.txt', story);
    const runs = await Promise.all([
      lockstep('plan', file, '--json'),
      lockstep('plan', file, '--json', '--checkpoint', 'checkpoint'),
      lockstep('plan', file, '--json', '--checkpoint', 'checkpoint', '--runtime', 'python'),
      lockstep('plan', file, '--json', '--config', 'lockstep.config.ts', '--runtime', 'python'),
    ]);
    for (const { code, stderr } of runs) {
      // Work of more than five seconds says how far it is.
      const others = stderr
        .split('\n')
        .filter((line) => line && !line.startsWith('plan story.txt '));
      expect({ code, others }).toEqual({ code: 0, others: [] });
    }
    const [first, ...others] = runs.map(({ stdout }) => JSON.parse(stdout));
    expect(Object.keys(first).sort()).toEqual(['boundaries', 'digest', 'tokens']);
    const contract = JSON.parse(
      readFileSync(path.join(root, 'checkpoint', 'lockstep.json'), 'utf8'),
    );
    expect(first.digest).toBe(contract.digest);
    let start = 0;
    for (const boundary of first.boundaries) {
      expect(boundary - start).toBeGreaterThanOrEqual(4);
      expect(boundary - start).toBeLessThanOrEqual(32);
      start = boundary;
    }
    expect(first.tokens - start).toBeLessThan(32);
    expect(first.boundaries.length).toBeGreaterThan(20);
    for (const other of others) expect(other).toEqual(first);
  });

  test('without --json: a row a segment, and a short text whole', async () => {
    const { code, stdout } = await lockstep('plan', text('story.txt', story));
    expect(code).toBe(0);
    const { boundaries } = JSON.parse((await lockstep('plan', 'story.txt', '--json')).stdout);
    expect(stdout).toContain(`${boundaries.length} closed segments`);
    expect(stdout).toContain(`0-${boundaries[0]}`);
    expect(stdout).toContain(' open');
    expect(stdout).not.toContain('\x1b[');
    // Marks taken out, the text under the rows is the text.
    const whole = stdout.slice(stdout.indexOf('[0]')).replaceAll(/\[\d+\]/g, '');
    expect(whole).toBe(`${story}\n`);
  });

  test('colours on a terminal, none with --no-color or NO_COLOR', async () => {
    const file = text('short.txt', 'One.\n\nTwo and three.\n\n');
    const colored = await run(['plan', file], { FORCE_COLOR: '1', NO_COLOR: '' });
    expect(colored.stdout).toContain('\x1b[38;5;231;48;5;24m');
    const switched = await run(['plan', file, '--no-color'], { FORCE_COLOR: '1' });
    expect(switched.stdout).not.toContain('\x1b[');
    const environment = await run(['plan', file], { FORCE_COLOR: '1', NO_COLOR: '1' });
    expect(environment.stdout).not.toContain('\x1b[');
  });

  test('control characters of a text do not reach the terminal', async () => {
    const { stdout } = await lockstep('plan', text('evil.txt', 'a\x1b[2Jb\u009b31m\x07 c'));
    for (const control of ['\x1b', '\x07', '\u009b']) expect(stdout).not.toContain(control);
  });

  test('--html writes one self-contained page, with the text escaped', async () => {
    const { code, stdout } = await lockstep('plan', text('story.txt', story), '--html', 'map.html');
    expect(code).toBe(0);
    expect(stdout).toContain('map.html');
    const page = readFileSync(path.join(root, 'map.html'), 'utf8');
    expect(page).toContain('<html lang="en">');
    expect(page).not.toMatch(/<script|https?:|src=|<blew>/);
    const shown = [...page.matchAll(/<p>([^<]*)<\/p><\/li>/g)].map((match) => match[1]).join('');
    const plain = shown
      .replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&quot;', '"')
      .replaceAll('&amp;', '&');
    expect(plain).toBe(story);
  });

  test('the page of --html meets WCAG 2.2 AA', { timeout: 300_000 }, async () => {
    await lockstep('plan', text('story.txt', story.repeat(3)), '--html', 'long.html');
    await lockstep('plan', text('empty.txt', ''), '--html', 'none.html');
    const files = ['long.html', 'none.html'].map((name) => path.join(root, name));
    expect(await violationsOfFiles(...files)).toEqual([]);
  });

  test('--json and --html together give both', async () => {
    const { stdout } = await lockstep(
      'plan',
      text('story.txt', story),
      '--json',
      '--html',
      'both.html',
    );
    expect(JSON.parse(stdout).tokens).toBeGreaterThan(100);
    expect(existsSync(path.join(root, 'both.html'))).toBe(true);
  });

  test('empty and one-token texts', async () => {
    for (const runtime of ['node', 'python']) {
      const empty = await lockstep('plan', text('empty.txt', ''), '--json', '--runtime', runtime);
      expect(JSON.parse(empty.stdout)).toMatchObject({ tokens: 0, boundaries: [] });
      const one = await lockstep('plan', text('one.txt', 'a'), '--json', '--runtime', runtime);
      expect(JSON.parse(one.stdout)).toMatchObject({ tokens: 1, boundaries: [] });
    }
    const shown = await lockstep('plan', 'empty.txt', '--html', 'empty.html');
    expect(shown.code).toBe(0);
    expect((await lockstep('plan', 'empty.txt')).stdout).toContain('nothing to cut');
  });

  test('a long text has its middle rows left out', async () => {
    const { stdout } = await lockstep('plan', text('long.txt', story.repeat(40)));
    expect(stdout).toMatch(/\.\.\. [\d,]+ more segments \.\.\./);
    expect(stdout.split('\n').length).toBeLessThan(70);
  });

  test('a closed pipe is no failure', async () => {
    const child = spawn(
      process.execPath,
      [cli, 'plan', text('long.txt', story.repeat(40)), '--json'],
      {
        cwd: root,
      },
    );
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.stdout.destroy();
    const [code] = await once(child, 'close');
    expect([code, stderr]).toEqual([0, '']);
  });

  test.each([
    ['the ids are written', 'ids.i32', 20_000],
    // Many of the pieces after which Python looks whether it is to stop.
    ['Python plans', 'cuts.i32', 500],
  ])('SIGINT while %s ends a plan with 130 and leaves nothing behind', async (_, begun, times) => {
    const file = text('huge.txt', story.repeat(times));
    const args = [cli, 'plan', file, '--json', '--runtime', 'python'];
    const scratch = path.join(root, 'scratch');
    rmSync(scratch, { recursive: true, force: true });
    mkdirSync(scratch);
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, TMPDIR: scratch },
    });
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    const files = () => readdirSync(scratch, { recursive: true }).map(String);
    while (!files().some((file) => path.basename(file) === begun)) {
      await new Promise((go) => setTimeout(go, 20));
    }
    child.kill('SIGINT');
    const [code] = await once(child, 'close');
    expect(stderr).toContain('LS_CANCELLED');
    expect(code).toBe(130);
    expect(readdirSync(scratch)).toEqual([]);
  });
});

describe('bad input', () => {
  test.each<[string, () => string[], number, string]>([
    [
      'a text that is not UTF-8',
      () => ['plan', text('bad.txt', Uint8Array.of(97, 98, 255))],
      1,
      'LS_TEXT_ENCODING',
    ],
    ['a missing text', () => ['plan', 'absent.txt'], 1, 'LS_TEXT_MISSING'],
    ['a folder', () => ['plan', 'model'], 1, 'LS_TEXT_MISSING'],
    [
      'a missing config',
      () => ['plan', text('t.txt', 'a'), '--config', 'absent.ts'],
      1,
      'LS_CONFIG_MISSING',
    ],
    [
      'a checkpoint without a contract',
      () => ['plan', text('t.txt', 'a'), '--checkpoint', 'model'],
      1,
      'LS_CONTRACT_MISSING',
    ],
    [
      'a page in no folder',
      () => ['plan', text('t.txt', 'a'), '--html', 'no/where.html'],
      1,
      'LS_PLAN_WRITE',
    ],
    ['an unknown option', () => ['plan', 't.txt', '--fast'], 2, 'unknown option'],
    ['an unknown runtime', () => ['plan', 't.txt', '--runtime', 'ruby'], 2, 'ruby'],
    [
      'two sources',
      () => ['plan', 't.txt', '--config', 'a', '--checkpoint', 'b'],
      2,
      'expected --config or --checkpoint, got both',
    ],
    ['too many arguments', () => ['plan', 'a', 'b'], 2, 'too many arguments'],
    ['no argument', () => ['plan'], 2, 'expected the argument <file>, got none'],
    ['an unknown command', () => ['plam'], 2, 'plan'],
    ['no command', () => [], 2, 'Usage: lockstep'],
    [
      'an existing checkpoint',
      () => ['attach', 'model', '--out', 'checkpoint'],
      1,
      'LS_ATTACH_EXISTS',
    ],
    [
      'a checkpoint inside its model',
      () => ['attach', 'model', '--out', 'model/segmented'],
      1,
      'LS_ATTACH_SAME',
    ],
  ])('%s', async (_, args, expected, said) => {
    const { code, stdout, stderr } = await lockstep(...args());
    expect(stderr).toContain(said);
    expect(code).toBe(expected);
    expect(stdout).toBe('');
    expect(stderr).not.toMatch(/^\s+at /m);
    if (expected === 1) expect(stderr).toMatch(/^error LS_\w+: .+\nfix: .+\n$/);
  });

  test('a config that throws is named by file and line', async () => {
    writeFileSync(
      path.join(root, 'throws.config.ts'),
      `const a = null as never;\n\na.b;\nexport default {};\n`,
    );
    const { code, stderr } = await lockstep(
      'plan',
      text('t.txt', 'a'),
      '--config',
      'throws.config.ts',
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error LS_CONFIG_FAILED: throws\.config\.ts:3:\d+: /);
  });

  test('a contract edited by hand is refused', async () => {
    await lockstep('attach', 'model', '--out', 'edited', '--force');
    const file = path.join(root, 'edited', 'lockstep.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"max": 32', '"max": 16'));
    const { code, stderr } = await lockstep('plan', text('t.txt', 'a'), '--checkpoint', 'edited');
    expect([code, stderr]).toEqual([1, expect.stringContaining('LS_CONTRACT_DIGEST')]);
  });

  test('version and help', async () => {
    const { version } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8'));
    for (const flag of ['-v', '--version']) {
      expect(await lockstep(flag)).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    }
    const { code, stdout } = await lockstep('--help');
    expect(code).toBe(0);
    for (const command of ['attach', 'plan']) expect(stdout).toContain(`  ${command} `);
  });
});
