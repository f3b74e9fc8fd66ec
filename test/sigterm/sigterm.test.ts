// SIGTERM under load cuts no stream that fits into the drain. 3 in `npm test`, 1,000 in `npm run test:slow`
// (LOCKSTEP_SIGTERMS=COUNT; LOCKSTEP_SIGTERMS_SEED=N begins elsewhere).
import { expect, test } from 'vitest';
import { writeContract } from '../../src/checkpoint/index.ts';
import { tell } from '../helpers/tell.ts';
import { fakeVllms } from '../vllm-fixture.ts';
import { terminateMany } from './terminate.ts';

const count = Number(process.env['LOCKSTEP_SIGTERMS'] ?? 3);
const seed = Number(process.env['LOCKSTEP_SIGTERMS_SEED'] ?? 1);
const vllm = fakeVllms();

test(`${count} SIGTERMs: no cut stream`, { timeout: 120_000 + 60_000 * count }, async () => {
  const fake = await vllm.opened.fake('--delay', '0.004');
  // A server of its own reads the contract from the folder.
  await writeContract(vllm.toy.dir, vllm.toy.files);
  const ended = await terminateMany(vllm.toy.dir, fake.url, seed, count);
  tell({ search: 'sigterm', count, seed, ...ended });
  expect(ended.problems).toEqual([]);
  expect(ended.complete + ended.refused).toBe(12 * count);
  // The signal came while answers were running.
  expect(ended.complete).toBeGreaterThanOrEqual(count);
});
