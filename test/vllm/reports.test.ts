// The cases of public reports through the real vLLM: the ids, ends and texts of the torch engine.
import { rmSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { findPython } from '../../src/bridge/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { makeReported } from '../reports/checkpoint.ts';
import { checkDrawn, checkOutcomes, outcomes } from '../reports/requests.ts';
import { engineArguments, ServeProcesses } from '../serve-processes.ts';
import { temporaryFolder } from '../tiny-checkpoint.ts';

const folder = temporaryFolder('reports-vllm');
const processes = new ServeProcesses();
afterAll(async () => {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
});

test('vLLM and torch alike', async () => {
  const { executable } = await findPython({ modules: vllmModules });
  const dir = await makeReported(folder);
  const start = (engine: 'torch' | 'vllm') =>
    processes.start(dir, '--python', executable, ...engineArguments(engine));
  const [vllm, torch] = [await start('vllm'), await start('torch')];
  const all = await outcomes(vllm);
  await checkOutcomes(dir, all);
  await checkDrawn(vllm);
  expect(all).toEqual(await outcomes(torch));
});
