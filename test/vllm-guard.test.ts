// Whatever is killed, nothing that vLLM consists of stays: on real processes.
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import { findPython, startService } from '../src/bridge/index.ts';
import { writeContract } from '../src/checkpoint/write.ts';
import { packageRoot } from '../src/paths.ts';
import { realPython } from './helpers/python.ts';
import { ended, isRunning } from './processes.ts';
import { type Any, until } from './server-client.ts';
import { makeToy } from './server-toy.ts';
import { fakeVllms } from './vllm-fixture.ts';
import { pidIn } from './vllm-upstream.ts';

// The processes that Python starts are looked at.
process.env['PYTHON_BIN'] = realPython;
const vllm = fakeVllms(async () => {
  const toy = await makeToy();
  await writeContract(toy.dir, toy.files);
  return toy;
});

describe('the guard', () => {
  const stubborn =
    'import signal, time; signal.signal(15, signal.SIG_IGN); print("up"); time.sleep(600)';

  test('ends what does not listen, after its grace', async () => {
    const python = await findPython();
    const lines: string[] = [];
    const service = await startService({
      python,
      command: ['-c', stubborn],
      graceMs: 200,
      onLine: (line) => lines.push(line),
    });
    await until(() => lines.includes('up'));
    const exit = await service.stop();
    expect(exit.code).toBe(128 + 9);
    expect(isRunning(service.pid)).toBe(false);
  });

  test('killed itself, it takes its group along', async () => {
    const { engine, fakes, lines } = await vllm.opened.supervise(['--engine-process']);
    const { pid } = await (fakes[0] as Any).seen();
    expect(pidIn(lines, 'pid')).toBe(pid);
    process.kill(engine.pids()[0] as number, 'SIGKILL');
    await ended(pid);
  });

  test.each(['SIGKILL', 'SIGTERM'] as const)('%s of Node leaves no process', async (signal) => {
    const script = path.join(packageRoot, 'test', 'vllm-holder.ts');
    const holder: ChildProcess = spawn(
      process.execPath,
      ['--import', 'tsx', script, vllm.toy.dir, vllm.toy.files.contract.digest],
      { stdio: ['ignore', 'pipe', 'inherit'], cwd: packageRoot },
    );
    const lines = createInterface({ input: holder.stdout as NodeJS.ReadableStream });
    const pids: number[] = [];
    for await (const line of lines) {
      pids.push(...(JSON.parse(line) as number[]));
      break;
    }
    expect(pids).toHaveLength(3);
    expect(pids.map(isRunning)).toEqual([true, true, true]);
    holder.kill(signal);
    for (const pid of pids) await ended(pid);
  });
});
