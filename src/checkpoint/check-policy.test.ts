import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { vocabularyOf } from '../../test/helpers/policy.ts';
import { repeats } from '../../test/policies/repeats.ts';
import { bundlePolicy } from '../contract/bundle.ts';
import { definePolicy, type Policy } from '../policies/index.ts';
import { checkPolicy } from './check-policy.ts';

const texts = ['the', 'one', 'two', 'see', 'me'];
const sequence = Array.from({ length: 200 }, (_, i) => (i * i) % 5);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-check-policy-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function check(policy: Policy): Promise<void> {
  const { source } = await bundlePolicy(policy);
  const contract = {
    policy: { name: policy.name },
    tables: policy.prepare(vocabularyOf(texts)),
    // A large min hides requests from plans, not from the proof.
    segment: { min: 128, max: 128, align: 1 },
    tokenizer: { size: texts.length },
  };
  checkPolicy(policy, { contract, policySource: source }, [sequence, sequence.slice(3)]);
}

it('passes a policy that depends on its arguments alone', async () => {
  await expect(check(repeats())).resolves.toBeUndefined();
});

it('finds what push closes over', async () => {
  const file = path.join(folder, 'closing.ts');
  await writeFile(
    file,
    `import { definePolicy } from 'lockstep';
     export const closing = definePolicy({ name: 'closing', push: (_state, token) => token === 1 });`,
  );
  // As where a config makes the policy with a value of its own.
  const chosen = 2;
  const closing = definePolicy({
    name: 'closing',
    module: pathToFileURL(file).href,
    push: (_state, token) => token === chosen,
  });
  await expect(check(closing())).rejects.toMatchObject({
    code: 'LS_POLICY_CLOSURE',
    message: expect.stringMatching(/^expected the policy closing .* at token 1 \(id 1\)$/),
  });
});

it('finds state outside the state', async () => {
  const file = path.join(folder, 'hiding.ts');
  await writeFile(
    file,
    `import { definePolicy } from 'lockstep';
     let seen = 0;
     export const hiding = definePolicy({ name: 'hiding', push: () => ++seen % 7 === 0 });`,
  );
  let seen = 0;
  const hiding = definePolicy({
    name: 'hiding',
    module: pathToFileURL(file).href,
    push: () => ++seen % 7 === 0,
  });
  await expect(check(hiding())).rejects.toMatchObject({ code: 'LS_POLICY_MEMORY' });
});

it('ends a policy that takes memory without end, at a token that golden sequences hold', async () => {
  const file = path.join(folder, 'greedy.ts');
  await writeFile(
    file,
    `import { definePolicy } from 'lockstep';
export const greedy = definePolicy({
  name: 'greedy',
  params: { end: 4 },
  push: (_state, token, { params }) => {
    const all: number[][] = [];
    while (token === params.end) all.push(new Array(1000).fill(0.5));
    return false;
  },
});`,
  );
  const greedy = definePolicy({
    name: 'greedy',
    module: pathToFileURL(file).href,
    params: { end: 4 },
    push: () => false,
  });
  await expect(check(greedy())).rejects.toMatchObject({
    code: 'LS_POLICY_LIMIT',
    message: expect.stringMatching(/\(id 4\): takes more memory than it may/),
  });
});
