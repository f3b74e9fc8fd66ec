// Random policies in both runtimes: those that are accepted cut alike, to the last byte of their state.
//
// 200 policies in `npm test`, 20,000 in `npm run test:slow` (LOCKSTEP_FUZZ=COUNT; LOCKSTEP_FUZZ_SEED=N
// begins elsewhere).
import { execFile } from 'node:child_process';
import path from 'node:path';
import { expect, it } from 'vitest';
import { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { interleavedPlans, PolicyHost, Segmenter } from '../src/planner/index.ts';
import { python } from './helpers/python.ts';
import { type RandomCase, randomPolicies, randomTokens } from './helpers/random-policies.ts';

const count = Number(process.env['LOCKSTEP_FUZZ'] ?? 200);
const first = Number(process.env['LOCKSTEP_FUZZ_SEED'] ?? 1);
/** Policies that cross to Python in one process. */
const batch = 300;
const length = 240;

interface Outcome {
  cuts?: number[];
  snapshot?: string;
  interleaved?: number[];
  code?: string;
  message?: string;
}

function inNode(source: RandomCase, tokens: number[]): Outcome {
  try {
    const segmenter = new Segmenter(new PolicyHost(source));
    const cuts = segmenter.pushMany(tokens);
    const [interleaved] = interleavedPlans(source, [tokens]);
    return { cuts, snapshot: segmenter.snapshot(), interleaved: interleaved as number[] };
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    return { code: error.code, message: error.message };
  }
}

/** A policy that needs too much time is stopped in both, at a token that depends on the machine. */
function comparable(outcome: Outcome | undefined): Outcome | undefined {
  if (outcome?.code !== 'LS_POLICY_LIMIT') return outcome;
  return { ...outcome, message: outcome.message?.replace(/ at token \d+ \(id \d+\)/, '') ?? '' };
}

function inPython(cases: readonly (RandomCase & { tokens: number[] })[]): Promise<Outcome[]> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      python,
      [path.join(packageRoot, 'test/python/run_random_policies.py')],
      {
        maxBuffer: 1 << 28,
        env: { ...process.env, PYTHONPATH: path.join(packageRoot, 'python') },
      },
      (error, stdout) => (error === null ? resolve(JSON.parse(stdout)) : reject(error)),
    );
    child.stdin?.end(JSON.stringify(cases));
  });
}

it(`${count} random policies cut alike in Node and in Python, alone and interleaved`, {
  timeout: Math.max(600_000, count * 400),
}, async () => {
  const totals = { accepted: 0, refused: 0, failed: 0, cuts: 0 };
  for (let seed = first; seed < first + count; seed += batch) {
    const size = Math.min(batch, first + count - seed);
    const { accepted, refused } = await randomPolicies(
      Array.from({ length: size }, (_, i) => seed + i),
    );
    const cases = accepted.map((source) => ({
      ...source,
      tokens: randomTokens(source.seed, length),
    }));
    const theirs = await inPython(cases);
    cases.forEach((source, i) => {
      const ours = inNode(source, source.tokens);
      expect(comparable(theirs[i]), `the policy of seed ${source.seed}`).toEqual(comparable(ours));
      if (ours.cuts === undefined) totals.failed += 1;
      else expect(ours.interleaved, `the policy of seed ${source.seed}`).toEqual(ours.cuts);
      totals.cuts += ours.cuts?.length ?? 0;
    });
    totals.accepted += accepted.length;
    totals.refused += refused;
  }
  if (count > 300) console.log(JSON.stringify(totals));
  // The grammar means something: most are accepted and cut, and some are refused.
  expect(totals.accepted).toBeGreaterThan(count * 0.8);
  expect(totals.refused).toBeGreaterThan(0);
  expect(totals.failed).toBeLessThan(totals.accepted * 0.1);
  expect(totals.cuts).toBeGreaterThan(totals.accepted * 4);
});
