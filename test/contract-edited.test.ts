// A contract, or the checkpoint around it, is refused after a change by hand.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readContract } from '../src/checkpoint/index.ts';
import { type Contract, digestOf } from '../src/contract/index.ts';
import { contractFolder, json } from './contract-fixture.ts';
import { tinyVocabulary } from './tiny-checkpoint.ts';

const { attached } = contractFolder('contract-edited');

/** Change lockstep.json by hand; `sealed` also makes its digest right again. */
function edit(dir: string, change: (contract: Contract) => void, sealed = false): void {
  const file = path.join(dir, 'lockstep.json');
  const contract = json(file) as unknown as Contract;
  change(contract);
  if (sealed) contract.digest = digestOf(contract);
  writeFileSync(file, JSON.stringify(contract));
}

describe('a checkpoint edited by hand', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await attached();
  });
  const backup = new Map<string, Buffer>();
  const change = (name: string, edited: () => void) => async () => {
    const file = path.join(dir, name);
    backup.set(file, readFileSync(file));
    try {
      edited();
      await readContract(dir);
      return 'accepted';
    } catch (error) {
      return error;
    } finally {
      writeFileSync(file, backup.get(file) as Buffer);
    }
  };
  const contractEdit = (edited: (contract: Contract) => void, sealed = false) =>
    change('lockstep.json', () => edit(dir, edited, sealed));
  const configEdit = (field: string, value: unknown) =>
    change('config.json', () => {
      const file = path.join(dir, 'config.json');
      writeFileSync(file, JSON.stringify({ ...json(file), [field]: value }));
    });
  const append = (name: string) =>
    change(name, () => writeFileSync(path.join(dir, name), ' ', { flag: 'a' }));

  test.each<[string, () => Promise<unknown>, string, string]>([
    [
      'carry.size',
      contractEdit((c) => {
        c.carry.size = 9;
      }),
      'LS_CONTRACT_DIGEST',
      'digest',
    ],
    [
      'tables',
      contractEdit((c) => {
        c.tables = [1];
      }),
      'LS_CONTRACT_DIGEST',
      'digest',
    ],
    [
      'an unknown field',
      contractEdit((c) => {
        Object.assign(c, { more: 1 });
      }),
      'LS_CONTRACT_SCHEMA',
      '',
    ],
    [
      'a wrong type',
      contractEdit((c) => {
        Object.assign(c.segment, { max: '9' });
      }),
      'LS_CONTRACT_SCHEMA',
      'segment.max',
    ],
    [
      'no JSON',
      change('lockstep.json', () => writeFileSync(path.join(dir, 'lockstep.json'), '{')),
      'LS_CONTRACT_SCHEMA',
      '',
    ],
    ['policy.js', append('policy.js'), 'LS_CONTRACT_POLICY', 'policy.sha256'],
    ['tokenizer.json', append('tokenizer.json'), 'LS_CONTRACT_TOKENIZER', 'tokenizer.sha256'],
    [
      'architectures',
      configEdit('architectures', ['LlamaForCausalLM']),
      'LS_CONTRACT_ARCHITECTURE',
      'architectures',
    ],
    [
      'the model type',
      configEdit('model_type', 'qwen2'),
      'LS_CONTRACT_ARCHITECTURE',
      'architectures',
    ],
    [
      'a model type that plain transformers would run',
      configEdit('model_type', 'llama'),
      'LS_CONTRACT_ARCHITECTURE',
      'model_type',
    ],
    [
      'the vocabulary',
      configEdit('vocab_size', 400),
      'LS_CONTRACT_ARCHITECTURE',
      'model.vocabulary',
    ],
    ['the layers', configEdit('num_hidden_layers', 5), 'LS_CONTRACT_ARCHITECTURE', 'model.layers'],
    [
      'long heads, sealed',
      contractEdit((c) => {
        c.heads.long[3] = [0, 3];
      }, true),
      'LS_CONTRACT_ARCHITECTURE',
      'heads.long[3]',
    ],
    [
      'golden boundaries, sealed',
      contractEdit((c) => {
        c.golden[0]?.boundaries.splice(1, 1, 7);
      }, true),
      'LS_CONTRACT_GOLDEN',
      'golden[0].boundaries[1]',
    ],
    [
      'segment.max, sealed',
      contractEdit((c) => {
        c.segment.max = 16;
      }, true),
      'LS_CONTRACT_GOLDEN',
      'golden[0].boundaries[0]',
    ],
  ])('%s', async (_, run, code, field) => {
    const error = (await run()) as { message: string; fix: string };
    expect(error).toMatchObject({ code, ...(field === '' ? {} : { field }) });
    expect(error.fix).toContain('lockstep attach');
  });

  test('the error names the expected and the received value', async () => {
    const error = (await configEdit('vocab_size', 400)()) as Error;
    expect(error.message).toContain(String(tinyVocabulary));
    expect(error.message).toContain('400');
  });

  test('training and trained may change: they are not part of the digest', async () => {
    const run = contractEdit((c) => {
      c.training.truncation = 5;
      c.trained = { ...c.trained, steps: 3, tokens: 4096 };
    });
    expect(await run()).toBe('accepted');
  });

  test('an error names the file that is missing', async () => {
    const out = await attached();
    rmSync(path.join(out, 'tokenizer.json'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_TOKENIZER' });
    rmSync(path.join(out, 'policy.js'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_POLICY' });
    rmSync(path.join(out, 'lockstep.json'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_MISSING' });
  });
});
