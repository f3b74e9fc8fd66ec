// How the onnx engine ends: its worker dies, it is closed in the middle of a step, its process exits.
import { spawnSync } from 'node:child_process';
import type { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import { builtModule } from '../src/paths.ts';
import { failure } from './helpers/failure.ts';
import { S, step, tokensOf, useExported } from './onnx-engine-fixture.ts';

const exported = useExported(['fp32']);

describe('ends', () => {
  it('rejects what waits when the worker dies', async () => {
    // The policy's host is a worker too; the engine's is started after it.
    const workers: Worker[] = [];
    process.on('worker', (started) => workers.push(started));
    const doomed = await openOnnxEngine(exported.dir, { threads: 1, pieceTokens: 1 });
    const session = await doomed.open();
    const steps = [step(session, tokensOf(0, S)), doomed.open(), session.memory()].map((work) =>
      failure(work),
    );
    // What Node says of a worker out of memory; ending one inside onnxruntime would end the process.
    workers.at(-1)?.emit('error', new Error('Worker terminated due to reaching memory limit'));
    for (const each of steps) expect((await each).code).toBe('LS_ENGINE_CRASHED');
    expect(await failure(doomed.open())).toMatchObject({ code: 'LS_ENGINE_CRASHED' });
    expect((await doomed.lost)?.code).toBe('LS_ENGINE_CRASHED');
    await session.close();
    await doomed.close();
  });

  it('close in the middle of a step rejects that step', async () => {
    const closing = await openOnnxEngine(exported.dir, { threads: 1, pieceTokens: 1 });
    const open = await closing.open();
    const dropped = failure(step(open, tokensOf(0, S)));
    await closing.close();
    expect(await dropped).toMatchObject({ code: 'LS_ENGINE_CLOSED' });
    expect(await failure(closing.open())).toMatchObject({ code: 'LS_ENGINE_CLOSED' });
    await closing.close();
    // Closed is not lost.
    expect(await Promise.race([closing.lost, 'open'])).toBe('open');
  });

  it('neither a run nor an idle engine keeps the process alive', () => {
    const script = (end: string) => `
      import { openOnnxEngine } from ${JSON.stringify(builtModule('engines/onnx.js').href)};
      const engine = await openOnnxEngine(${JSON.stringify(exported.dir)}, { threads: 1 });
      const session = await engine.open();
      const options = { rows: 'all', close: false };
      await session.step([1, 2, 3], options);
      ${end}`;
    const run = (end: string): [number | null, string] => {
      const args = ['--input-type=module', '-e', script(end)];
      const done = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
      return [done.status, done.stderr];
    };
    const busy = `
      void session.step([4, 5, 6, 7, 8, 9, 10], options);
      setTimeout(() => process.exit(7), Number(process.pid % 3));`;
    for (let i = 0; i < 3; i++) expect(run(busy)).toEqual([7, '']);
    expect(run('')).toEqual([0, '']);
    // A close waits for the run that it interrupts, also where nothing else keeps the process alive.
    const closed = `
      session.step([4, 5, 6, 7, 8, 9, 10], options).catch(() => {});
      await engine.close();
      process.exit(3);`;
    expect(run(closed)).toEqual([3, '']);
  });
});
