// What an author of policies uses: a trace, a plan that watches, standard input, help, completion, errors as JSON.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const root = temporaryFolder('author');
afterAll(() => rmSync(root, { recursive: true, force: true }));

const policy = (every: number, fault = ''): string => `import { definePolicy } from 'lockstep';
export const own = definePolicy({
  name: 'own',
  start: () => ({ seen: 0 }),
  push: (state) => {
    state.seen += 1;${fault}
    return state.seen % ${every} === 0;
  },
});
`;

beforeAll(() => {
  tinyCheckpoint(path.join(root, 'model'));
  mkdirSync(path.join(root, 'policies'));
  writeFileSync(path.join(root, 'policies', 'own.ts'), policy(3));
  writeFileSync(
    path.join(root, 'lockstep.config.ts'),
    `import { defineConfig } from 'lockstep';
import { own } from './policies/own.ts';
export default defineConfig({ model: 'model', out: 'out', policy: own(), segment: { min: 4, max: 32 }, carry: { size: 8 } });
`,
  );
});

interface Run {
  code: number;
  stdout: string;
  stderr: string;
}

function lockstep(args: string[], input = ''): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [cli, ...args],
      { cwd: root },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
      },
    );
    child.stdin?.end(input);
  });
}

const text = 'abcdefghijklmnop';

describe('plan', () => {
  it('- reads standard input, in both runtimes, and leaves nothing behind', async () => {
    const node = await lockstep(['plan', '-', '--json'], text);
    expect(JSON.parse(node.stdout)).toMatchObject({ tokens: 16, boundaries: [6, 12] });
    const python = await lockstep(['plan', '-', '--json', '--runtime', 'python'], text);
    expect(python.stdout).toBe(node.stdout);
    expect((await lockstep(['plan', '-'], text)).stdout).toContain('standard input  16 tokens');
  });

  it('--trace: answers, cuts and state, and the same plan', async () => {
    const { stdout } = await lockstep(['plan', '-', '--trace', '--json'], text);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const plan = lines.pop();
    expect(plan).toEqual(JSON.parse((await lockstep(['plan', '-', '--json'], text)).stdout));
    expect(lines).toHaveLength(16);
    // Asked for after three tokens, which is less than min; and after six.
    expect(lines[2]).toMatchObject({
      index: 2,
      text: 'c',
      asks: true,
      cut: false,
      length: 3,
      state: { seen: 3 },
    });
    expect(lines[3]).toMatchObject({ asks: false, cut: false });
    expect(lines[5]).toMatchObject({ asks: true, cut: true, length: 6, state: { seen: 6 } });
    expect(lines[6]).toMatchObject({ length: 1, state: { seen: 7 } });
    const table = (await lockstep(['plan', '-', '--trace'], text)).stdout.split('\n');
    expect(table[3]).toMatch(/^ +2 +\d+ +"c" +yes +3 +\{"seen":3\} <- drop$/);
    expect(table[6]).toMatch(/"f" +yes +6 +\{"seen":6\} <- cut$/);
  });

  it('--watch plans again when the policy changes, a faulty one too, until Ctrl-C', async () => {
    writeFileSync(path.join(root, 'text.txt'), text);
    const child = spawn(process.execPath, [cli, 'plan', 'text.txt', '--watch', '--json'], {
      cwd: root,
    });
    let printed = '';
    const lines = (): string[] => printed.split('\n').slice(0, -1);
    let errors = '';
    let told = (): void => {};
    child.stdout.on('data', (data) => {
      printed += data;
      told();
    });
    child.stderr.on('data', (data) => {
      errors += data;
      told();
    });
    /** Until a line is there and the files are watched again. */
    const reached = async (count: number): Promise<void> => {
      while (lines().length < count || errors.split('watching').length - 1 < count) {
        await new Promise<void>((resolve) => {
          told = resolve;
        });
      }
    };
    await reached(1);
    writeFileSync(path.join(root, 'policies', 'own.ts'), policy(5));
    await reached(2);
    writeFileSync(
      path.join(root, 'policies', 'own.ts'),
      policy(5, ' if (state.seen > 9) (null as never as { a: 1 }).a;'),
    );
    await reached(3);
    writeFileSync(path.join(root, 'policies', 'own.ts'), policy(3));
    await reached(4);
    child.kill('SIGINT');
    await once(child, 'close');
    const plans = lines().map((line) => JSON.parse(line));
    expect(plans[0].boundaries).toEqual([6, 12]);
    expect(plans[1].boundaries).toEqual([5, 10, 15]);
    expect(plans[2]).toMatchObject({ error: { code: 'LS_POLICY_THREW', place: { line: 6 } } });
    expect(plans.at(-1).boundaries).toEqual([6, 12]);
    expect(errors).toContain('> 6 |');
  }, 120_000);

  it('options that exclude each other are refused', async () => {
    for (const [args, words] of [
      [['--trace', '--html', 'a'], 'expected --trace or --html, got both'],
      [['--trace', '--runtime', 'python'], 'expected --runtime node with --trace'],
      [['--watch', '--checkpoint', 'a'], 'expected --watch or --checkpoint, got both'],
    ] as const) {
      const { code, stderr } = await lockstep(['plan', 'text.txt', ...args]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(words)]);
    }
  });
});

describe('every command', () => {
  const names = readdirSync(path.join(packageRoot, 'src/cli'), { withFileTypes: true })
    .filter((entry) => entry.name !== 'shared' && entry.name !== 'drawing')
    .map((entry) => entry.name.replace(/\.ts$/, ''))
    .filter((name) => !['main', 'run', 'commands'].includes(name));

  it('has the same help by `help NAME` and `NAME --help`, without empty default values', async () => {
    expect(names.length).toBeGreaterThan(15);
    const list = (await lockstep(['help'])).stdout;
    for (const name of names) expect(list).toContain(`  ${name} `);
    for (const name of ['plan', 'export', 'train', 'init']) {
      const [help, flag] = await Promise.all([
        lockstep(['help', name]),
        lockstep([name, '--help']),
      ]);
      expect(help).toEqual(flag);
      expect(help).toMatchObject({
        code: 0,
        stderr: '',
        stdout: expect.stringContaining(`lockstep ${name}`),
      });
      expect(help.stdout).not.toMatch(/default: (\{\}|\[\]|undefined)/);
    }
    expect(await lockstep(['help', 'plam'])).toMatchObject({ code: 2 });
  });

  it.each([
    [['plan', 'absent.txt', '--json'], 1, 'LS_TEXT_MISSING'],
    [['train', '--config', 'absent.ts', '--json'], 1, 'LS_CONFIG_MISSING'],
    [['attach', 'absent', '--out', 'x', '--json'], 1, 'LS_MODEL_MISSING'],
    [['verify', 'absent', '--json'], 1, 'LS_CONTRACT_MISSING'],
    [['plan', '--json'], 2, 'LS_USAGE'],
    [['train', '--fast', '--json'], 2, 'LS_USAGE'],
  ])('an error is JSON where JSON was asked for: %j', async (args, code, named) => {
    const run = await lockstep(args);
    expect(run.code).toBe(code);
    expect(JSON.parse(run.stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({
      ok: false,
      error: { code: named, message: expect.any(String) },
    });
    expect(run.stderr).toContain('error');
  });
});

describe('completion', () => {
  it('bash completes commands, options, choices and files', async () => {
    const { stdout: script } = await lockstep(['completion', 'bash']);
    const complete = (...words: string[]): string[] => {
      const quoted = words.map((word) => `'${word}'`).join(' ');
      const program = `${script}\nCOMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _lockstep; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-c', program], { cwd: root, encoding: 'utf8' })
        .trim()
        .split('\n');
    };
    expect(complete('lockstep', 'pl')).toEqual(['plan']);
    expect(complete('lockstep', 'plan', '--tr')).toEqual(['--trace']);
    expect(complete('lockstep', 'plan', '--runtime', '')).toEqual(['node', 'python']);
    expect(complete('lockstep', 'plan', 'lockstep.c')).toEqual(['lockstep.config.ts']);
    expect(complete('lockstep', 'completion', '')).toEqual(['bash', 'fish', 'zsh']);
    expect(complete('lockstep', 'help', 'att')).toEqual(['attach']);
  });

  it('zsh and fish have every command and every choice', async () => {
    for (const shell of ['zsh', 'fish']) {
      const { stdout, code } = await lockstep(['completion', shell]);
      expect(code).toBe(0);
      for (const word of ['attach', 'verify', 'trace', 'node python'])
        expect(stdout).toContain(word);
    }
    expect((await lockstep(['completion', 'tcsh'])).code).toBe(2);
  });
});
