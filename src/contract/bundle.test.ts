import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { logarithm } from '../../test/policies/logarithm.ts';
import { packageRoot } from '../paths.ts';
import { after, anyOf, definePolicy, fixed, type Policy, sentences } from '../policies/index.ts';
import { bundlePolicy } from './bundle.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-bundle-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A policy whose module holds `source`. */
async function written(source: string, name = 'mine', file = `${name}.ts`): Promise<Policy> {
  const full = path.join(folder, file);
  await mkdir(path.dirname(full), { recursive: true });
  await writeFile(full, source);
  return definePolicy({ name, module: pathToFileURL(full).href, push: () => false })();
}

describe('the bytes', () => {
  it('are one readable script without a path of this machine', async () => {
    const { source, sha256 } = await bundlePolicy(
      anyOf(after(sentences(), 64), fixed({ size: 4 })),
    );
    expect(source.startsWith('(function (lockstep) {\n"use strict";\n')).toBe(true);
    expect(source).not.toContain('policies/sentences');
    expect(source).not.toContain(packageRoot);
    expect(source).not.toContain('import.meta');
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it('are the same from the compiled package', async () => {
    const [built, builtContract] = (await Promise.all([
      import(path.join(packageRoot, 'dist/policies/index.js')),
      import(path.join(packageRoot, 'dist/contract/bundle.js')),
    ])) as [typeof import('../policies/index.ts'), typeof import('./bundle.ts')];
    const ours = await bundlePolicy(anyOf(sentences(), fixed()));
    const theirs = await builtContract.bundlePolicy(built.anyOf(built.sentences(), built.fixed()));
    expect(theirs.source).toBe(ours.source);
  });

  it('are the same in another folder', async () => {
    const module = `
      import { definePolicy } from 'lockstep';
      import { limit } from './parts/limit.ts';
      export const mine = definePolicy({ name: 'mine', push: (state, token) => token > limit });`;
    const hashes = [];
    for (const place of ['a', 'deep/er']) {
      await written('export const limit: number = 7;', 'limit', `${place}/parts/limit.ts`);
      hashes.push((await bundlePolicy(await written(module, 'mine', `${place}/mine.ts`))).sha256);
    }
    expect(hashes[0]).toBe(hashes[1]);
  });

  it('differ where parameters do, and nowhere else', async () => {
    const one = await bundlePolicy(fixed({ size: 4 }));
    const two = await bundlePolicy(fixed({ size: 4 }));
    const three = await bundlePolicy(fixed({ size: 5 }));
    expect(two.sha256).toBe(one.sha256);
    expect(three.sha256).not.toBe(one.sha256);
  });
});

describe('what a policy may import', () => {
  it('is portable mathematics', async () => {
    const { source } = await bundlePolicy(logarithm());
    expect(source).toContain('npm:@stdlib/math-base-special-ln/lib/main.js');
  });

  it('is a package of its own project', async () => {
    const place = path.join(folder, 'project/node_modules/tables');
    await mkdir(place, { recursive: true });
    await writeFile(path.join(place, 'package.json'), '{"name": "tables", "main": "index.js"}');
    await writeFile(path.join(place, 'index.js'), 'module.exports = { first: 1 };');
    const policy = await written(
      `import tables from 'tables';
       import { definePolicy } from 'lockstep';
       export const mine = definePolicy({ name: 'mine', push: () => tables.first > 1 });`,
      'mine',
      'project/mine.ts',
    );
    expect((await bundlePolicy(policy)).source).toContain('// npm:tables/index.js');
  });

  it('is no Node module', async () => {
    const policy = await written(`import { readFileSync } from 'node:fs';
      export const mine = readFileSync;`);
    await expect(bundlePolicy(policy)).rejects.toMatchObject({
      code: 'LS_POLICY_NONDETERMINISTIC',
      message: expect.stringMatching(/mine\.ts: .*import of the Node module node:fs/),
    });
  });

  it('must be there, and be correct', async () => {
    await expect(bundlePolicy(await written(`\nimport './missing.ts';`))).rejects.toMatchObject({
      code: 'LS_POLICY_BUNDLE',
      message: expect.stringMatching(/mine\.ts:2: Could not resolve "\.\/missing\.ts"/),
    });
    await expect(bundlePolicy(await written('export const = 1;'))).rejects.toMatchObject({
      code: 'LS_POLICY_BUNDLE',
      message: expect.stringMatching(/mine\.ts:1: Expected identifier/),
    });
  });
});

it('names file and line of what is not deterministic, and what to use instead', async () => {
  const policy = await written(`import { definePolicy } from 'lockstep';
    interface State { since: number }
    export const mine = definePolicy({
      name: 'mine',
      start: (): State => ({ since: 0 }),
      push: (state: State) => Date.now() > state.since,
    });`);
  await expect(bundlePolicy(policy)).rejects.toMatchObject({
    code: 'LS_POLICY_NONDETERMINISTIC',
    message: expect.stringMatching(/mine\.ts:6: .* a policy that uses Date$/),
    fix: expect.stringContaining('count tokens'),
  });
});

it('asks for a module of its own', async () => {
  const loose = definePolicy({ name: 'loose', push: () => false })();
  await expect(bundlePolicy(loose)).rejects.toMatchObject({ code: 'LS_POLICY_MODULE' });
  const inConfig = await written('', 'inConfig', 'lockstep.config.ts');
  await expect(bundlePolicy(inConfig)).rejects.toMatchObject({
    code: 'LS_POLICY_MODULE',
    message: 'expected the policy inConfig in a file of its own, got it in lockstep.config.ts',
  });
});

it('follows a link to the package', async () => {
  // As `npm link` and workspaces lay it out: the importer finds lockstep through node_modules.
  const project = path.join(folder, 'linked');
  await mkdir(path.join(project, 'node_modules'), { recursive: true });
  await symlink(packageRoot, path.join(project, 'node_modules/lockstep'));
  await cp(path.join(packageRoot, 'test/policies/repeats.ts'), path.join(project, 'repeats.ts'));
  const module = pathToFileURL(path.join(project, 'repeats.ts')).href;
  const policy = definePolicy({ name: 'repeats', module, push: () => false })();
  const { source } = await bundlePolicy(policy);
  expect(source).toContain('// policy:repeats.ts');
});
