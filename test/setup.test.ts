// Set-up's checks: what a machine lacks is named with its fix, without a stack trace.
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { realPython } from './helpers/python.ts';

const run = promisify(execFile);
const scratch = mkdtempSync(path.join(tmpdir(), 'lockstep-setup-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A check of scripts/setup run in a process of its own, its error printed as set-up prints it. */
async function check(expression: string, env: Record<string, string> = {}): Promise<string> {
  const module = path.join(packageRoot, 'scripts');
  const program = `
    import { report } from '${module}/lib.mjs';
    import * as checks from '${module}/setup/checks.mjs';
    import { unpack } from '${module}/setup/unpack.mjs';
    try { ${expression} } catch (error) { report(error); }`;
  const { stdout, stderr } = await run('node', ['--input-type=module', '-e', program], {
    env: { ...process.env, ...env },
  }).catch((error) => error);
  return stdout + stderr;
}

function interpreter(name: string, body: string): string {
  const file = path.join(scratch, name);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}

describe('set-up', () => {
  test('an old Node is refused', async () => {
    const old = `Object.defineProperty(process, 'versions', { value: { node: '18.20.0' } }); checks.checkNode();`;
    const output = await check(old);
    expect(output).toMatch(/^error LS_SETUP_NODE: expected Node 20 or newer, got 18\.20\.0/);
    expect(output).toContain('fix: ');
    expect(output).not.toMatch(/\n {4}at /);
  });

  test('an old Python is refused by its version', async () => {
    const old = interpreter('old-python', 'echo 3.9.2');
    const output = await check('checks.findSystemPython();', { PYTHON_BIN: old });
    expect(output).toMatch(
      /^error LS_SETUP_PYTHON: expected Python 3\.11 or newer .*got old-python: 3\.9\.2/,
    );
  });

  test('an interpreter that is not there is named', async () => {
    const output = await check('checks.findSystemPython();', { PYTHON_BIN: '/nowhere/python' });
    expect(output).toContain('/nowhere/python: not found');
  });

  test('an interpreter that fits is taken', async () => {
    const output = await check('console.log(JSON.stringify(checks.findSystemPython()));', {
      PYTHON_BIN: interpreter('good-python', 'echo 3.12.1'),
    });
    expect(JSON.parse(output)).toMatchObject({ version: '3.12.1' });
  });

  test('a wheel is unpacked, whole or some of its files', async () => {
    const zip = path.join(scratch, 'two.whl');
    const make = `import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as made:
    for name in ("in/a.json", "in/b.json"): made.writestr(name, name)`;
    await run(realPython, ['-c', make, zip]);
    for (const [name, files] of [
      ['whole', []],
      ['some', ['in/b.json']],
    ] as const) {
      const to = path.join(scratch, name);
      const given = [zip, to, files].map((each) => JSON.stringify(each)).join();
      expect(await check(`await unpack(${given});`)).toBe('');
      expect(readdirSync(path.join(to, 'in'))).toEqual(
        name === 'whole' ? ['a.json', 'b.json'] : ['b.json'],
      );
    }
  });

  test('an archive that cannot be unpacked is named', async () => {
    const broken = path.join(scratch, 'broken.tar.gz');
    writeFileSync(broken, 'no archive');
    const given = [broken, scratch].map((each) => JSON.stringify(each)).join();
    expect(await check(`await unpack(${given});`)).toMatch(
      /^error LS_SETUP_UNPACK: broken\.tar\.gz could not be unpacked: .*not/,
    );
  });

  test('an option that does nothing is an error', async () => {
    const script = path.join(packageRoot, 'scripts', 'setup.mjs');
    const failed = await run('node', [script, '--fast']).catch((error) => error);
    expect(failed.code).toBe(2);
    expect(failed.stderr).toMatch(/^error LS_SETUP_OPTION: .*--fast/);
  });
});
