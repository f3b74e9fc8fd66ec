// Interleaved plans: what a policy answers must depend on its tokens alone.
import { PolicyHost } from './host.ts';
import { Segmenter } from './segmenter.ts';
import type { PolicySource } from './source.ts';

/** Longest piece of a sequence that is pushed in one go, tokens. */
const longest = 128;

/**
 * Plans of the sequences, taken in turns of a few tokens and in random order, each going back and forth
 * between two engines by way of snapshots. A policy without memory but its state cuts as it does when
 * each sequence runs alone.
 *
 * @param first runs this policy already, and stays open: it becomes one of the two engines
 * @returns cuts of each sequence, as `plan` gives them
 * @throws LS_POLICY_* where the policy fails
 */
export function interleavedPlans(
  source: PolicySource,
  sequences: readonly ArrayLike<number>[],
  first?: PolicyHost,
): number[][] {
  const hosts = [first ?? new PolicyHost(source), new PolicyHost(source)] as const;
  try {
    const draw = integers(20261128);
    const running = sequences.map((tokens) => ({
      tokens,
      at: 0,
      side: 0,
      segmenter: new Segmenter(hosts[0]),
      cuts: [] as number[],
    }));
    for (let open = running.filter(unfinished); open.length > 0; open = open.filter(unfinished)) {
      const one = open[draw() % open.length] as (typeof running)[number];
      const end = Math.min(one.tokens.length, one.at + 1 + (draw() % longest));
      one.cuts.push(...one.segmenter.pushMany(Array.prototype.slice.call(one.tokens, one.at, end)));
      one.at = end;
      if (draw() % 4 === 0) continue;
      one.side = 1 - one.side;
      const before = one.segmenter;
      one.segmenter = Segmenter.restore(hosts[one.side] as PolicyHost, before.snapshot());
      before.close();
    }
    return running.map(({ cuts }) => cuts);
  } finally {
    for (const host of hosts) if (host !== first) host.close();
  }
}

function unfinished({ at, tokens }: { at: number; tokens: ArrayLike<number> }): boolean {
  return at < tokens.length;
}

/** Numerical Recipes' linear congruential generator; the high bits, as the low ones repeat. */
export function integers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 4;
  };
}
