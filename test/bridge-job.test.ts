import { spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { beforeAll, describe, expect, it } from 'vitest';
import { findPython, type JobEvent, type Python, runJob } from '../src/bridge/index.ts';
import type { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { ended, isRunning } from './processes.ts';

const pythonPath = [path.join(import.meta.dirname, 'python', 'faults')];
let python: Python;
beforeAll(async () => {
  python = await findPython();
});

interface Extra {
  signal?: AbortSignal;
  graceMs?: number;
  onEvent?: (event: JobEvent) => void;
  onLine?: (line: string) => void;
  stderrLines?: number;
  env?: NodeJS.ProcessEnv;
}
const fault = (job: Record<string, unknown>, extra: Extra = {}) =>
  runJob({ module: 'fault_jobs', job, python, pythonPath, ...extra });
const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
    },
    (error) => error as LockstepError,
  );

describe('runJob', () => {
  it('gives events in order and the result, whatever goes to stdout', async () => {
    const events: JobEvent[] = [];
    const lines: string[] = [];
    const payload = { text: 'é\u2028"\n', list: [1, 2.5, null] };
    const result = await fault(
      { fault: 'none', payload },
      { onEvent: (event) => events.push(event), onLine: (line) => lines.push(line) },
    );
    expect(result).toEqual({ event: 'result', steps: 3, got: payload });
    expect(events.map((event) => event['step'])).toEqual([0, 1, 2]);
    expect(events[0]?.['text']).toBe('é\u2028');
    expect(lines).toContain('noise on stdout 2');
  });

  it('takes 20,000 events and a description of a megabyte', async () => {
    let count = 0;
    const payload = 'x'.repeat(1_000_000);
    const result = await fault(
      { fault: 'none', events: 20_000, payload },
      { onEvent: () => count++ },
    );
    expect(count).toBe(20_000);
    expect(result['got']).toBe(payload);
  });

  it('turns NaN and infinity into null', async () => {
    const events: JobEvent[] = [];
    const result = await fault({ fault: 'nan' }, { onEvent: (event) => events.push(event) });
    expect(events).toEqual([{ event: 'progress', loss: null, deep: { a: [null, 1.5] } }]);
    expect(result['loss']).toBeNull();
  });

  it('keeps lines whole when four threads emit', async () => {
    const next = [0, 0, 0, 0];
    await fault(
      { fault: 'threads' },
      {
        onEvent: (event) => {
          const thread = event['thread'] as number;
          expect(event['index']).toBe(next[thread]);
          next[thread] = (next[thread] ?? 0) + 1;
        },
      },
    );
    expect(next).toEqual([250, 250, 250, 250]);
  });

  it('rethrows a LockstepError of Python with all its parts', async () => {
    const error = await failure(fault({ fault: 'refuse' }));
    expect(error.toJSON()).toEqual({
      code: 'LS_TEST_REFUSED',
      message: 'expected tea, got coffee',
      fix: 'brew tea',
      field: 'cup',
    });
  });

  it('names any other exception, with the traceback only under LOCKSTEP_DEBUG', async () => {
    const { LOCKSTEP_DEBUG: _, ...env } = process.env;
    const plain = await failure(fault({ fault: 'raise' }, { env }));
    expect(plain).toMatchObject({
      code: 'LS_PYTHON_FAILED',
      message: 'RuntimeError: the kettle is empty',
    });
    expect(plain.cause).toBeUndefined();
    const debug = await failure(
      fault({ fault: 'raise' }, { env: { ...env, LOCKSTEP_DEBUG: '1' } }),
    );
    expect(debug.cause).toContain('fault_jobs.py');
  });

  it('names a full disk and missing memory as the cause', async () => {
    expect(await failure(fault({ fault: 'full' }))).toMatchObject({ code: 'LS_DISK_FULL' });
    expect(await failure(fault({ fault: 'memory' }))).toMatchObject({ code: 'LS_PYTHON_MEMORY' });
  });

  it('reports a kill, an early exit and a missing result with the last lines', async () => {
    const killed = await failure(fault({ fault: 'kill' }));
    expect(killed.code).toBe('LS_JOB_CRASHED');
    expect(killed.message).toMatch(/SIGKILL[\s\S]*about to go/);
    const left = await failure(fault({ fault: 'exit' }));
    expect(left.code).toBe('LS_JOB_CRASHED');
    expect(left.message).toMatch(/exit code 5[\s\S]*left early/);
    expect(await failure(fault({ fault: 'silent-exit' }))).toMatchObject({
      code: 'LS_JOB_NO_RESULT',
    });
    expect(await failure(fault({ fault: 'garbage' }))).toMatchObject({ code: 'LS_JOB_PROTOCOL' });
  });

  it('names a module that does not exist', async () => {
    const error = await failure(runJob({ module: 'no_such_job', job: {}, python }));
    expect(error.code).toBe('LS_JOB_CRASHED');
    expect(error.message).toContain('No module named no_such_job');
  });

  it('does not swallow what onEvent throws', async () => {
    const thrown = new Error('listener');
    const error = await failure(
      fault(
        { fault: 'none' },
        {
          onEvent: () => {
            throw thrown;
          },
        },
      ),
    );
    expect(error).toBe(thrown);
  });

  it('ends a job whose events nobody can take, and says what the job itself said', async () => {
    const thrown = new Error('listener');
    const onEvent = () => {
      throw thrown;
    };
    expect(await failure(fault({ fault: 'until-cancelled' }, { onEvent }))).toBe(thrown);
    expect(await failure(fault({ fault: 'deaf' }, { onEvent, graceMs: 200 }))).toBe(thrown);
    expect(await failure(fault({ fault: 'garbage-until-cancelled' }))).toMatchObject({
      code: 'LS_JOB_PROTOCOL',
      cause: { code: 'LS_TEST_REFUSED' },
    });
  });

  it('cancels: with a result, without one, before the start, and against resistance', async () => {
    const cancelling = (job: Record<string, unknown>, graceMs?: number) => {
      const controller = new AbortController();
      return fault(job, {
        signal: controller.signal,
        onEvent: () => controller.abort(),
        ...(graceMs === undefined ? {} : { graceMs }),
      });
    };
    expect(await cancelling({ fault: 'until-cancelled' })).toMatchObject({ cancelled: true });
    const nothing = await failure(cancelling({ fault: 'until-cancelled', result: false }));
    expect(nothing.code).toBe('LS_JOB_CANCELLED');
    expect(await failure(cancelling({ fault: 'deaf' }, 200))).toMatchObject({
      code: 'LS_JOB_CANCELLED',
    });
    const before = fault({ fault: 'none' }, { signal: AbortSignal.abort() });
    expect(await failure(before)).toMatchObject({ code: 'LS_JOB_CANCELLED' });
  });

  it('ends even if a grandchild keeps the pipes open', async () => {
    let grandchild = 0;
    const result = await fault(
      { fault: 'grandchild' },
      { onEvent: (event) => (grandchild = event['pid'] as number) },
    );
    // 0 would be this process and all of its group.
    expect(grandchild).toBeGreaterThan(1);
    expect(isRunning(grandchild)).toBe(true);
    process.kill(grandchild, 'SIGKILL');
    expect(result).toEqual({ event: 'result' });
  });

  it.each(['until-cancelled', 'deaf'])('dies with its parent (%s)', async (name) => {
    const script = `
      import { runJob } from ${JSON.stringify(path.join(packageRoot, 'src/bridge/index.ts'))};
      await runJob({ module: 'fault_jobs', job: { fault: '${name}' }, graceMs: 300,
        python: ${JSON.stringify(python.executable)}, pythonPath: ${JSON.stringify(pythonPath)},
        onEvent: (event) => console.log(event.pid) });`;
    const tsx = path.join(packageRoot, 'node_modules', 'tsx', 'dist', 'esm', 'index.mjs');
    const parent = spawn(process.execPath, ['--import', tsx, '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const line = await new Promise<string>((resolve, reject) => {
      readline.createInterface({ input: parent.stdout }).once('line', resolve);
      parent.once('exit', (code) => reject(new Error(`the parent left early with ${code}`)));
    });
    const pid = Number(line);
    expect(isRunning(pid)).toBe(true);
    parent.kill('SIGKILL');
    await ended(pid);
  });
});
