// lockstep detach: a plain checkpoint out of a segmented one.
import { readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { attach, detach, readContract } from '../src/checkpoint/index.ts';
import { readModel } from '../src/contract/index.ts';
import { sentences } from '../src/policies/index.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

let root: string;
let model: string;
let attached: string;

beforeAll(async () => {
  root = temporaryFolder('detach');
  model = tinyCheckpoint(path.join(root, 'model'));
  attached = path.join(root, 'attached');
  await attach({
    modelDir: model,
    out: attached,
    config: {
      policy: sentences(),
      segment: { min: 2, max: 16, align: 2 },
      carry: { size: 4, sinks: 4 },
      retrieval: { size: 4, recipe: 'anchors', layers: [2] },
      heads: { long: [0] },
      bos: false,
    },
  });
  // What a trained or exported checkpoint has beside: none of it belongs to a plain one.
  writeFileSync(path.join(attached, 'anything.json'), '{}');
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

test('weights are linked, the contract is left behind, the original settings come back', async () => {
  const out = path.join(root, 'plain');
  const contract = await detach(attached, out);
  expect(contract).toEqual((await readContract(attached)).contract);
  expect(readdirSync(out).sort()).toEqual([
    'README.md',
    'chat_template.jinja',
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const inode = (dir: string): number => statSync(path.join(dir, 'model.safetensors')).ino;
  expect(inode(out)).toBe(inode(model));
  const settings = (dir: string): unknown =>
    JSON.parse(readFileSync(path.join(dir, 'config.json'), 'utf8'));
  expect(settings(out)).toEqual(settings(model));
  expect((await readModel(out)).family).toBe('Llama');
  const card = readFileSync(path.join(out, 'README.md'), 'utf8');
  expect(card).toContain('full attention');
  expect(card).toContain('never trained');
  expect(card).toContain(contract.digest);
});

test('refuses an existing folder, and a checkpoint without a contract', async () => {
  const out = path.join(root, 'there');
  await detach(attached, out);
  const before = readdirSync(root);
  await expect(detach(attached, out)).rejects.toMatchObject({ code: 'LS_DETACH_EXISTS' });
  await expect(detach(attached, attached)).rejects.toMatchObject({ code: 'LS_DETACH_EXISTS' });
  await expect(detach(model, path.join(root, 'new'))).rejects.toMatchObject({
    code: 'LS_CONTRACT_MISSING',
  });
  expect(readdirSync(root)).toEqual(before);
});

test('refuses a folder inside the checkpoint, through a link too', async () => {
  const before = readdirSync(attached);
  const link = path.join(root, 'link');
  symlinkSync(attached, link);
  for (const out of [
    path.join(attached, 'x'),
    path.join(attached, 'a', 'b'),
    path.join(link, 'x'),
  ]) {
    await expect(detach(attached, out)).rejects.toMatchObject({ code: 'LS_DETACH_SAME' });
  }
  expect(readdirSync(attached)).toEqual(before);
});
