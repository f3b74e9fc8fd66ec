// Policies written as a user's module, each made into a bundle from a file of its own.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll } from 'vitest';
import { bundlePolicy } from '../../src/contract/bundle.ts';
import type { PolicySource } from '../../src/planner/index.ts';
import { definePolicy } from '../../src/policies/index.ts';
import { randomIntegers } from './random.ts';

let folder: string;
let files = 0;

/** Call once in a test file that uses `bundled`. */
export function usePolicyFiles(): void {
  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-own-'));
  });
  afterAll(() => rm(folder, { recursive: true }));
}

const draw = randomIntegers(11);
export const sequences = [317, 401, 263].map((length) => Array.from({ length }, () => draw(32)));

/** The bundle of a module that exports `own`; its tables hold two lists. */
export async function bundled(module: string): Promise<PolicySource> {
  files += 1;
  const file = path.join(folder, `own-${files}.ts`);
  await writeFile(file, `import { definePolicy, derived, has } from 'lockstep';\n${module}`);
  const policy = definePolicy({
    name: 'own',
    module: pathToFileURL(file).href,
    params: { end: 2 },
    push: () => false,
  })();
  const { source } = await bundlePolicy(policy);
  const contract = {
    policy: { name: 'own' },
    tables: { ends: [2, 7, 9], starts: [1] },
    segment: { min: 1, max: 4096, align: 1 },
    tokenizer: { size: 32 },
  };
  return { contract, policySource: source };
}

/** A policy named own; `rest` are its members. */
export const own = (rest: string): string =>
  `export const own = definePolicy({ name: 'own', params: { end: 2 }, ${rest} });`;
