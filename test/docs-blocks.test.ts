// Every code block of the documentation is run, or marked `no-run` and checked as far as it can be (docs/blocks.ts).
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseJson } from '../src/json.ts';
import { packageRoot } from '../src/paths.ts';
import { documentationBlocks, kindOf, notRunElsewhere } from './docs/blocks.ts';
import { type PageFolder, pageFolder, read } from './docs/page-folder.ts';
import { python } from './helpers/python.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const root = temporaryFolder('docs');
afterAll(() => rmSync(root, { recursive: true, force: true }));
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env: NodeJS.ProcessEnv = { ...process.env, PYTHON_BIN: python, NO_COLOR: '1' };

function run(command: string, args: string[], cwd: string, more: NodeJS.ProcessEnv = {}) {
  const options = { cwd, env: { ...env, ...more }, encoding: 'utf8', input: '' } as const;
  const { status: code, stdout, stderr } = spawnSync(command, args, options);
  return { code, stdout, stderr };
}

const { blocks, problems } = documentationBlocks();

describe('every block', () => {
  test('is run, checked, text, or run by a test that names the page', () => {
    expect(problems).toEqual([]);
    expect(notRunElsewhere()).toEqual([]);
    const count = (kind: string) => blocks.filter((block) => block.kind === kind).length;
    expect(count('run')).toBeGreaterThan(25);
    expect(count('elsewhere')).toBeGreaterThan(4);
  });

  test('without a language, with an unknown one or with another mark is found', () => {
    const wrong = ['', 'bash', 'sh norun', 'ts no-run x', 'json no-run', 'text no-run'];
    for (const info of wrong) expect(kindOf('docs/x.md', info, ''), info).toHaveProperty('problem');
    expect(kindOf('docs/x.md', 'text', 'lockstep plan x\n')).toHaveProperty('problem');
    expect(kindOf('docs/x.md', 'sh no-run', '')).toBe('checked');
    expect(kindOf('docs/x.md', 'ts', '')).toBe('run');
    expect(kindOf('docs/other-tools.md', 'sh', '')).toBe('elsewhere');
  });

  test('of JSON or YAML can be parsed, a line or a whole', () => {
    const parses = (text: string) => parseJson(text) !== undefined;
    const json = blocks.filter(({ language }) => language === 'json');
    const wrong = json.filter(
      ({ text }) => !parses(text) && !text.trim().split('\n').every(parses),
    );
    expect(wrong.map(({ at }) => at)).toEqual([]);
    const bodies = blocks
      .filter(({ language }) => language === 'sh')
      .flatMap(({ text, at }) => [...text.matchAll(/-d '([^']*)'/g)].map(([, body]) => [at, body]));
    expect(bodies.length).toBeGreaterThan(4);
    expect(bodies.filter(([, body]) => !parses(body as string))).toEqual([]);
    const yaml = blocks.filter(({ language }) => language === 'yaml');
    const program =
      'import json, sys, yaml\nfor text in json.load(sys.stdin): yaml.safe_load(text)';
    execFileSync(python, ['-c', program], { input: JSON.stringify(yaml.map(({ text }) => text)) });
  });
});

describe('on a small model', () => {
  const pages = new Map<string, PageFolder>();
  const own = (file: string) => blocks.filter((block) => block.file === file);

  beforeAll(async () => {
    const bin = path.join(root, 'bin');
    mkdirSync(bin);
    const shim = `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`;
    writeFileSync(path.join(bin, 'lockstep'), shim, { mode: 0o755 });
    env['PATH'] = `${bin}${path.delimiter}${process.env['PATH']}`;
    const model = await tinyModel(path.join(root, 'model'));
    const config =
      blocks.find(({ file, language }) => file === 'docs/get-started.md' && language === 'ts')
        ?.text ?? '';
    mkdirSync(path.join(root, 'node_modules'));
    symlinkSync(packageRoot, path.join(root, 'node_modules', 'lockstep'));
    writeFileSync(path.join(root, 'lockstep.config.ts'), config);
    const checkpoint = path.join(root, 'checkpoint');
    const made = run('lockstep', ['attach', 'model', '--out', 'checkpoint'], root);
    expect(made, made.stderr).toMatchObject({ code: 0 });
    const files = new Set(blocks.map(({ file }) => file));
    for (const file of files) {
      const code = own(file).filter(
        ({ kind, language }) =>
          language === 'ts' || (kind === 'run' && ['sh', 'python'].includes(language)),
      );
      if (code.length === 0) continue;
      const folder = path.join(root, file.replace(/[/.]/g, '-'));
      pages.set(file, await pageFolder(folder, own(file), model, checkpoint, config));
    }
  }, 300_000);

  test('TypeScript has the types of the package', () => {
    const options = {
      ...{ target: 'ES2023', module: 'NodeNext', moduleResolution: 'NodeNext', types: ['node'] },
      ...{ strict: true, noEmit: true, skipLibCheck: true, allowImportingTsExtensions: true },
      ...{ resolveJsonModule: true },
    };
    const files = [...pages.values()].flatMap(({ programs }) => programs.map(({ file }) => file));
    expect(files.length).toBeGreaterThan(15);
    const wrong = path.join(root, 'wrong.ts');
    writeFileSync(wrong, "import { fixed } from 'lockstep';\nfixed({ sise: 8 });\n");
    writeFileSync(
      path.join(root, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: { ...options, typeRoots: [path.join(packageRoot, 'node_modules/@types')] },
        files: [...files, wrong],
      }),
    );
    const tsc = path.join(packageRoot, 'node_modules', 'typescript', 'bin', 'tsc');
    const { stdout } = run(process.execPath, [tsc, '-p', root, '--pretty', 'false'], root);
    const [found, ...others] = stdout.trim().split('\n');
    expect([found, ...others].filter((line) => !line?.startsWith('wrong.ts'))).toEqual([]);
    expect(stdout).toContain('sise');
  }, 300_000);

  test('TypeScript runs, and configs are taken', () => {
    const programs = [...pages.values()].flatMap((page) => page.programs.filter((one) => one.run));
    expect(programs.length).toBeGreaterThan(12);
    const wrong = path.join(root, 'wrong.ts');
    const bad = path.join(root, 'bad.config.ts');
    writeFileSync(wrong, 'throw new Error("wrong");\n');
    writeFileSync(bad, "import { defineConfig } from 'lockstep';\nexport default { model: 1 };\n");
    const all = [
      ...programs,
      { file: wrong, made: undefined },
      { file: bad, made: 'defineConfig' },
    ];
    const script = path.join(import.meta.dirname, 'docs', 'run-programs.mjs');
    const folders = [...pages.values()].map(({ folder }) => folder);
    const ran = run(
      'sh',
      [
        '-c',
        'exec "$0" "$@" 2>&1',
        process.execPath,
        '--import',
        'tsx',
        script,
        JSON.stringify(all),
      ],
      packageRoot,
      { PYTHONPATH: folders.join(path.delimiter) },
    );
    const [, told] = /^problems: (.*)$/m.exec(ran.stdout) ?? [];
    expect(told, ran.stdout).toBeDefined();
    const { [wrong]: thrown, [bad]: refused, ...others } = JSON.parse(told ?? '');
    expect(others).toEqual({});
    expect(thrown).toContain('wrong');
    expect(refused).toContain('LS_CONFIG_INVALID');
    expect(ran).toMatchObject({ code: 0 });
    // docs/policies.md has a test of its own.
    expect(ran.stdout).toMatch(/pass 1\b/);
  }, 300_000);

  test('Python runs, or can be parsed', () => {
    const texts = blocks.filter(({ language }) => language === 'python');
    expect(texts.length).toBeGreaterThan(5);
    const given = texts.map(({ text, kind, file }) => ({
      text,
      run: kind === 'run',
      folder: pages.get(file)?.folder,
    }));
    const wrong = [
      { text: 'def (', run: false },
      { text: 'import none_such', run: true, folder: root },
    ];
    const script = path.join(import.meta.dirname, 'docs', 'run_python.py');
    const printed = execFileSync(python, [script], {
      input: JSON.stringify([...given, ...wrong]),
      encoding: 'utf8',
      env: { ...env, PYTHONPATH: path.join(packageRoot, 'python'), HF_HUB_OFFLINE: '1' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const found = JSON.parse(printed.trimEnd().split('\n').at(-1) ?? '') as (string | null)[];
    expect(found.splice(-2)).toEqual([
      expect.stringContaining('line 1'),
      expect.stringContaining('ModuleNotFoundError'),
    ]);
    expect(found.flatMap((one, at) => (one === null ? [] : [`${texts[at]?.at}: ${one}`]))).toEqual(
      [],
    );
  }, 300_000);

  test('shell commands run', () => {
    const shell = blocks.filter(({ language, kind }) => language === 'sh' && kind === 'run');
    expect(shell.length).toBeGreaterThan(6);
    for (const { text, at, file } of shell) {
      const { folder } = pages.get(file) as PageFolder;
      const config = path.join(folder, 'lockstep.config.ts');
      // `lockstep init` is for a folder without a config.
      const kept = /lockstep init/.test(text) ? readFileSync(config, 'utf8') : undefined;
      if (kept !== undefined) rmSync(config);
      const ran = run('sh', ['-e', '-c', text], folder);
      expect(ran, `${at}\n${ran.stdout}\n${ran.stderr}`).toMatchObject({ code: 0 });
      if (kept !== undefined) writeFileSync(config, kept);
    }
    const folderOf = (file: string) => (pages.get(file) as PageFolder).folder;
    expect(read(folderOf('docs/policies.md'), 'map.html')).toContain('<html');
    expect(read(folderOf('docs/contract.md'), 'PLAIN/config.json')).toContain('LlamaForCausalLM');
    expect(read(folderOf('docs/serving-keys.md'), 'keys.json')).toContain('prometheus');
  }, 600_000);
});
