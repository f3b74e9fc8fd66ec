import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { findPython, type Python, PythonSession } from '../src/bridge/index.ts';
import type { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { ended, isRunning } from './processes.ts';

const pythonPath = [path.join(import.meta.dirname, 'python', 'faults')];
let python: Python;
let session: PythonSession;
const open = (): Promise<PythonSession> => PythonSession.open({ python, pythonPath });
const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
    },
    (error) => error as LockstepError,
  );

beforeAll(async () => {
  python = await findPython();
  session = await open();
});
afterEach(async () => {
  if (!session.alive) session = await open();
});
afterAll(() => session.close());

describe('values passed to and from Python', () => {
  it('passes JSON both ways unchanged', async () => {
    const value = {
      text: 'é\u2028"\n\u0000😀',
      list: [1, -2.5, null, true],
      ffid: 3,
      r: 1,
      deep: { ffid: '' },
    };
    expect(await session.call('fault_calls:echo', { value })).toEqual(value);
  });

  it('turns a lone surrogate into a string Node can hold', async () => {
    expect(await session.call('fault_calls:surrogate')).toBe('a\ud800b');
  });

  it('takes two million integers and 10 MB of text through files', async () => {
    const value = Array.from({ length: 2_000_000 }, (_, index) => index);
    expect(await session.call('fault_calls:echo', { value })).toEqual(value);
    const text = await session.call<string>('fault_calls:text', { length: 3_500_000 });
    expect(text).toBe('é\u2028\n'.repeat(3_500_000));
    expect(readdirSync(session.folder)).toEqual(['python.log']);
  });

  it('answers NaN and infinity with an error, and takes the next call', async () => {
    for (const method of ['not_a_number', 'infinite']) {
      expect(await failure(session.call(`fault_calls:${method}`))).toMatchObject({
        code: 'LS_PYTHON_NAN',
      });
    }
    expect(await session.call('fault_calls:echo', { value: 1 })).toBe(1);
  });

  it('rethrows what Python raised, whatever it was', async () => {
    const refused = await failure(session.call('fault_calls:refuse'));
    expect(refused.toJSON()).toEqual({
      code: 'LS_TEST_REFUSED',
      message: 'expected tea, got coffee',
      fix: 'brew tea',
      field: 'cup',
    });
    expect(await failure(session.call('fault_calls:fail'))).toMatchObject({
      code: 'LS_PYTHON_FAILED',
      message: "KeyError: 'nothing'",
    });
    expect(await failure(session.call('fault_calls:leave'))).toMatchObject({
      message: 'SystemExit: 7',
    });
    expect(await failure(session.call('fault_calls:interrupt'))).toMatchObject({
      code: 'LS_PYTHON_FAILED',
    });
    expect(await failure(session.call('fault_calls:nowhere'))).toMatchObject({
      code: 'LS_RPC_METHOD',
    });
    expect(await failure(session.call('no_module:f'))).toMatchObject({ code: 'LS_RPC_METHOD' });
    expect(session.alive).toBe(true);
  });

  it('runs calls in the order they were made, one at a time', async () => {
    const all = Array.from({ length: 50 }, (_, index) =>
      session.call<number[]>('fault_calls:record', { index }),
    );
    const results = await Promise.all(all);
    expect(results.map((list) => list.length)).toEqual(all.map((_, index) => index + 1));
    expect(results.at(-1)).toEqual(all.map((_, index) => index));
  });

  it('keeps output away from the channel and from the terminal', async () => {
    expect(await session.call('fault_calls:noise')).toBe('done');
    const log = readFileSync(path.join(session.folder, 'python.log'), 'utf8');
    expect(log).toContain('noise of a child');
  });

  it("hides the channel from grandchildren and pythonia's modules from imports", async () => {
    expect(await session.call('fault_calls:environment', { name: 'NODE_CHANNEL_FD' })).toBeNull();
    const entries = await session.call<string[]>('fault_calls:path_entries');
    expect(entries.filter((entry) => entry.endsWith('pythonia'))).toEqual([]);
  });

  it('ignores the Ctrl-C of the terminal', async () => {
    expect(await session.call('fault_calls:ctrl_c')).toBe('alive');
  });
});

describe('when the Python process dies', () => {
  it('rejects the running and every waiting call at once, with the last lines of its output', async () => {
    const calls = [
      session.call('fault_calls:die'),
      session.call('fault_calls:echo', { value: 1 }),
      session.call('fault_calls:echo', { value: 2 }),
    ];
    const errors = await Promise.all(calls.map(failure));
    expect(errors.map((error) => error.code)).toEqual(Array(3).fill('LS_PYTHON_DIED'));
    expect(errors[0]?.message).toMatch(/SIGKILL[\s\S]*last words/);
    expect(session.alive).toBe(false);
    expect(await failure(session.call('fault_calls:echo', { value: 3 }))).toBe(errors[0]);
    session = await open();
    expect(await session.call('fault_calls:echo', { value: 4 })).toBe(4);
  });

  it('is noticed from outside, during a call and while idle', async () => {
    const call = failure(session.call('fault_calls:sleep', { seconds: 600 }));
    process.kill(session.pid as number, 'SIGKILL');
    expect((await call).code).toBe('LS_PYTHON_DIED');
    session = await open();
    process.kill(session.pid as number, 'SIGTERM');
    while (session.alive) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await failure(session.call('fault_calls:echo', { value: 1 }))).toMatchObject({
      code: 'LS_PYTHON_DIED',
    });
  });

  it('after a call that exceeds its time limit; time in the queue does not count', async () => {
    const late = failure(session.call('fault_calls:sleep', { seconds: 600 }, { timeoutMs: 200 }));
    const waiting = failure(session.call('fault_calls:echo', { value: 1 }));
    expect((await late).code).toBe('LS_PYTHON_TIMEOUT');
    expect((await waiting).code).toBe('LS_PYTHON_DIED');
    session = await open();
    // A limit counts from the moment Python starts on the call, not from the queue.
    const first = session.call('fault_calls:sleep', { seconds: 4 });
    const second = session.call('fault_calls:echo', { value: 1 }, { timeoutMs: 3_500 });
    expect(await Promise.all([first, second])).toEqual([4, 1]);
  });

  it('leaves no folder and no process', async () => {
    const own = await open();
    const { folder, pid } = own;
    const call = failure(own.call('fault_calls:sleep', { seconds: 600 }));
    await own.close();
    await own.close();
    expect((await call).code).toBe('LS_PYTHON_CLOSED');
    expect(existsSync(folder)).toBe(false);
    expect(isRunning(pid as number)).toBe(false);
    expect(await failure(own.call('fault_calls:echo', { value: 1 }))).toMatchObject({
      code: 'LS_PYTHON_CLOSED',
    });
  });
});

describe('start', () => {
  it('says what is missing where the interpreter does not exist or lacks our package', async () => {
    const bad: Python = { ...python, executable: '/nowhere/python3' };
    const missing = await failure(PythonSession.open({ python: bad }));
    expect(missing.code).toBe('LS_PYTHON_DIED');
    expect(missing.message).toContain('ENOENT');
    const notPython: Python = { ...python, executable: '/bin/false' };
    expect(await failure(PythonSession.open({ python: notPython }))).toMatchObject({
      code: 'LS_PYTHON_DIED',
    });
    expect(
      readdirSync(tmpdir()).filter((name) => name === path.basename(session.folder)),
    ).toHaveLength(1);
  });

  it('runs two sessions side by side and leaves the environment as it was', async () => {
    const before = { ...process.env };
    const other = await open();
    expect(process.env).toEqual(before);
    expect(other.pid).not.toBe(session.pid);
    await other.close();
    expect(await session.call('fault_calls:echo', { value: 'still here' })).toBe('still here');
  });

  it('lets Node exit without a close, and takes Python and the folder along', async () => {
    const script = `
      import { PythonSession } from ${JSON.stringify(path.join(packageRoot, 'src/bridge/index.ts'))};
      const session = await PythonSession.open({ python: ${JSON.stringify(python.executable)},
        pythonPath: ${JSON.stringify(pythonPath)} });
      const value = await session.call('fault_calls:sleep', { seconds: 0.3 });
      console.log(JSON.stringify({ value, pid: session.pid, folder: session.folder }));`;
    const tsx = path.join(packageRoot, 'node_modules', 'tsx', 'dist', 'esm', 'index.mjs');
    const stdout = await new Promise<string>((resolve, reject) => {
      // DEBUG would make pythonia print its traffic.
      const env = { ...process.env, DEBUG: '1' };
      execFile(
        process.execPath,
        ['--import', tsx, '--input-type=module', '-e', script],
        { env },
        (error, out) => (error ? reject(error) : resolve(out)),
      );
    });
    const { value, pid, folder } = JSON.parse(stdout) as {
      value: number;
      pid: number;
      folder: string;
    };
    expect(value).toBe(0.3);
    expect(existsSync(folder)).toBe(false);
    await ended(pid);
  });

  it.each([
    ['at rest', ''],
    ['at work', "session.call('lockstep.bridge.rpc:info').catch(() => {});"],
  ])('keeps Node alive until a close has ended the process, %s', async (_, work) => {
    const script = `
      import { PythonSession } from ${JSON.stringify(path.join(packageRoot, 'src/bridge/index.ts'))};
      const session = await PythonSession.open({ python: ${JSON.stringify(python.executable)} });
      ${work}
      await session.close();
      console.log('closed');`;
    const tsx = path.join(packageRoot, 'node_modules', 'tsx', 'dist', 'esm', 'index.mjs');
    const stdout = await new Promise<string>((resolve, reject) => {
      execFile(
        process.execPath,
        ['--import', tsx, '--input-type=module', '-e', script],
        (error, out) => (error ? reject(error) : resolve(out)),
      );
    });
    expect(stdout).toBe('closed\n');
  });

  it('the installed ws has the major version that pythonia asks for', () => {
    const require = createRequire(import.meta.url);
    const { version } = require('ws/package.json') as { version: string };
    expect(version.split('.')[0]).toBe('7');
  });
});
