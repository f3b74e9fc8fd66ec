// Random policies as policy sources, bundled as any policy is.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { bundlePolicy } from '../../src/contract/bundle.ts';
import { LockstepError } from '../../src/errors.ts';
import type { PolicySource } from '../../src/planner/index.ts';
import { definePolicy } from '../../src/policies/index.ts';
import { randomPolicy, vocabulary } from './policy-grammar.ts';
import { randomIntegers } from './random.ts';

export interface RandomCase extends PolicySource {
  readonly seed: number;
}

/** Sources of the policies of these seeds that the bundler accepts, and how many it refused. */
export async function randomPolicies(
  seeds: readonly number[],
): Promise<{ accepted: RandomCase[]; refused: number }> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-random-'));
  const accepted: RandomCase[] = [];
  let refused = 0;
  try {
    for (const seed of seeds) {
      const { module, params, tables } = randomPolicy(seed);
      const file = path.join(folder, `own-${seed}.ts`);
      await writeFile(file, module);
      const url = pathToFileURL(file).href;
      const policy = definePolicy({ name: 'own', module: url, params, push: () => false })();
      const draw = randomIntegers(seed);
      const align = 1 + draw(4);
      const min = align * (1 + draw(3));
      const segment = { min, max: min + align * draw(60), align };
      try {
        const { source } = await bundlePolicy(policy);
        const contract = {
          policy: { name: 'own' },
          tables,
          segment,
          tokenizer: { size: vocabulary },
        };
        accepted.push({ seed, contract, policySource: source });
      } catch (error) {
        if (!(error instanceof LockstepError)) throw error;
        refused += 1;
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return { accepted, refused };
}

/** Tokens for a random policy. */
export function randomTokens(seed: number, length: number): number[] {
  const draw = randomIntegers(seed + 77);
  return Array.from({ length }, () => draw(vocabulary));
}
