// The cases of public reports through the embedded engines: the same ids, ends and texts.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { engineArguments, ServeProcesses } from '../serve-processes.ts';
import { temporaryFolder } from '../tiny-checkpoint.ts';
import { makeReported } from './checkpoint.ts';
import { checkDrawn, checkOutcomes, type Outcome, outcomes } from './requests.ts';

const folder = temporaryFolder('reports');
const processes = new ServeProcesses();
const seen: Record<string, Outcome>[] = [];
let dir: string;

beforeAll(async () => {
  dir = await makeReported(folder);
}, 300_000);
afterAll(async () => {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
});

test.each(['onnx', 'torch'] as const)('%s', { timeout: 1_200_000 }, async (engine) => {
  const server = await processes.start(dir, ...engineArguments(engine));
  const all = await outcomes(server);
  await checkOutcomes(dir, all);
  await checkDrawn(server);
  seen.push(all);
});

test('both alike', () => {
  expect(seen).toHaveLength(2);
  expect(seen[0]).toEqual(seen[1]);
});
