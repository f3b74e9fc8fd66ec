// Random policies with state on the onnx engine: 8 sequences at a time, in random order, as each alone.
//
// 24 policies in `npm test`, 1,000 in `npm run test:slow` (LOCKSTEP_INTERLEAVING=COUNT). The trainer's
// operator and vLLM's scheduler: test/python/test_interleaving.py.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type OnnxEngine, openOnnxEngine } from '../src/engines/onnx.ts';
import { Sequence } from '../src/engines/sequence.ts';
import { LockstepError } from '../src/errors.ts';
import { PolicyHost, Segmenter } from '../src/planner/index.ts';
import { randomIntegers } from './helpers/random.ts';
import { type RandomCase, randomPolicies, randomTokens } from './helpers/random-policies.ts';
import { type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const count = Number(process.env['LOCKSTEP_INTERLEAVING'] ?? 24);
const together = 8;

const one: TinyCase = {
  name: 'tiny',
  architecture: 'llama',
  model: { head_dim: 8, hidden: 16, tied: true },
  segment: 24,
  carry: { size: 6, sinks: 2 },
  retrieval: { size: 8, recipe: 'anchors', layers: [1] },
  heads: [1],
  tokens: [],
  boundaries: [],
};

let folder: string;
let engine: OnnxEngine;
beforeAll(async () => {
  folder = temporaryFolder('interleaving');
  const made = await TinyCheckpoints.make(folder, [one]);
  await made.export([one]);
  made.finish();
  engine = await openOnnxEngine(made.dir(one), { threads: 1, maxSessions: 2 * together });
});
afterAll(async () => {
  await engine?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Tokens of one sequence in the pieces that it is given. */
type Pieces = readonly (readonly number[])[];

/** What ran: each boundary with what it retrieved, and each piece's logits. */
interface Trace {
  boundaries: object[];
  logits: Float32Array[];
}

async function feed(sequence: Sequence, piece: readonly number[], trace: Trace): Promise<void> {
  const onBoundary = (boundary: object): void => {
    trace.boundaries.push(boundary);
  };
  trace.logits.push(await sequence.feed(piece, { onBoundary }));
}

const begin = async (host: PolicyHost): Promise<Sequence> =>
  new Sequence(await engine.open(), new Segmenter(host));

async function alone(source: RandomCase, pieces: Pieces): Promise<Trace> {
  const sequence = await begin(new PolicyHost(source));
  const trace: Trace = { boundaries: [], logits: [] };
  try {
    for (const piece of pieces) await feed(sequence, piece, trace);
  } finally {
    await sequence.close();
  }
  return trace;
}

async function interleaved(source: RandomCase, all: readonly Pieces[]): Promise<Trace[]> {
  const host = new PolicyHost(source);
  const draw = randomIntegers(source.seed + 5);
  const running = await Promise.all(
    all.map(async (pieces) => ({
      left: [...pieces],
      sequence: await begin(host),
      trace: { boundaries: [], logits: [] } as Trace,
    })),
  );
  try {
    for (;;) {
      const open = running.filter(({ left }) => left.length > 0);
      if (open.length === 0) break;
      // Some at once, so that the engine's own queue is part of it.
      const turn = open.filter(() => draw(3) === 0);
      await Promise.all(
        (turn.length > 0 ? turn : open.slice(0, 1)).map(({ left, sequence, trace }) =>
          feed(sequence, left.shift() as readonly number[], trace),
        ),
      );
    }
  } finally {
    await Promise.all(running.map(({ sequence }) => sequence.close()));
  }
  return running.map(({ trace }) => trace);
}

function pieces(seed: number): Pieces {
  const draw = randomIntegers(seed);
  const tokens = randomTokens(seed, 30 + draw(40));
  const out: number[][] = [];
  for (let at = 0; at < tokens.length; ) {
    const end = at + 1 + draw(14);
    out.push(tokens.slice(at, end));
    at = end;
  }
  return out;
}

it(`${count} random policies, ${together} sequences at a time: 0 differences from each alone`, {
  timeout: Math.max(300_000, count * 4000),
}, async () => {
  let compared = 0;
  let boundaries = 0;
  for (let seed = 1; compared < count; seed += 1) {
    const { accepted } = await randomPolicies([seed]);
    for (const given of accepted) {
      const { align } = given.contract.segment;
      const segment = { min: align, max: 24 - (24 % align), align };
      const source = { ...given, contract: { ...given.contract, segment } };
      const all = Array.from({ length: together }, (_, i) => pieces(seed * 100 + i));
      let expected: Trace[];
      try {
        expected = [];
        for (const each of all) expected.push(await alone(source, each));
      } catch (error) {
        // The policy fails by itself, which is another test's concern.
        if (!(error instanceof LockstepError)) throw error;
        continue;
      }
      const actual = await interleaved(source, all);
      expect(actual, `the policy of seed ${seed}`).toEqual(expected);
      compared += 1;
      boundaries += expected.reduce((sum, trace) => sum + trace.boundaries.length, 0);
    }
  }
  expect(boundaries).toBeGreaterThan(count * together);
});
