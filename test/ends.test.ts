// The ids that end an answer: from all files that name one, into the contract, to every engine.
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import { attach, makeContract, readContract } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import { steppedRunner } from '../src/engines/stepped.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { packageRoot } from '../src/paths.ts';
import { fixed } from '../src/policies/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const root = temporaryFolder('ends');
let made = 0;
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = {
  policy: fixed(),
  segment: { min: 1, max: 16, align: 1 },
  carry: { size: 4, sinks: 4 },
  retrieval: { size: 0, recipe: 'anchors' as const, layers: [] },
  heads: { long: [] },
  bos: false,
};

function write(dir: string, name: string, value: object): void {
  writeFileSync(path.join(dir, name), JSON.stringify(value));
}

describe('the union', () => {
  test.each<[string, object | null, object, object, number[]]>([
    [
      'all three',
      { eos_token_id: [7, 2] },
      { eos_token_id: 5 },
      { eos_token: '<|im_end|>' },
      [2, 5, 7],
    ],
    ['an object of older files', null, {}, { eos_token: { content: '<|im_end|>' } }, [2]],
    ['a token that is not special', null, {}, { eos_token: 'th' }, [259]],
    ['ids that no model can write', { eos_token_id: [-1, 9999] }, { eos_token_id: 4 }, {}, [4]],
    ['a text that is no token', null, { eos_token_id: null }, { eos_token: '<none>' }, []],
  ])('%s', async (_, generation, change, settings, ends) => {
    made += 1;
    const dir = tinyCheckpoint(path.join(root, `union-${made}`), { eos_token_id: null, ...change });
    if (generation !== null) write(dir, 'generation_config.json', generation);
    write(dir, 'tokenizer_config.json', settings);
    const { contract } = await makeContract({ config, modelDir: dir });
    expect(contract.tokenizer.ends).toEqual(ends);
    expect((await loadTokenizer(dir)).ends).toEqual(ends);
  });

  test('special_tokens_map.json goes before older settings, as in transformers', async () => {
    const dir = tinyCheckpoint(path.join(root, 'map'), { eos_token_id: null });
    const map = { eos_token: { content: '<|im_end|>', lstrip: false }, bos_token: 'th' };
    write(dir, 'special_tokens_map.json', map);
    const script =
      'import json,sys; from transformers import AutoTokenizer as A; from lockstep.chat.source import read_template; t=A.from_pretrained(sys.argv[1]); print(json.dumps([t.eos_token, t.bos_token, dict(read_template(sys.argv[1]).special)]))';
    const template = {
      chat_template: '{{ eos_token }}',
      tokenizer_class: 'PreTrainedTokenizerFast',
    };
    for (const [settings, eos, bos] of [
      [{ ...template, eos_token: 'a' }, '<|im_end|>', 'th'],
      [{ ...template, eos_token: 'a', added_tokens_decoder: {} }, 'a', undefined],
    ] as const) {
      write(dir, 'tokenizer_config.json', settings);
      const { specialTokens, ends, vocabulary } = await loadTokenizer(dir);
      expect(specialTokens).toEqual(JSON.parse(JSON.stringify({ eos_token: eos, bos_token: bos })));
      expect(ends.map((id) => vocabulary.text(id))).toEqual([eos]);
      const { contract } = await makeContract({ config, modelDir: dir });
      expect(contract.tokenizer.ends).toEqual(ends);
      const { executable } = await findPython();
      const said = execFileSync(executable, ['-c', script, dir], { env: pythonEnvironment() });
      const [theirEos, theirBos, ours] = JSON.parse(String(said));
      expect([theirEos, theirBos ?? undefined]).toEqual([eos, bos]);
      expect(ours).toEqual(specialTokens);
    }
  }, 120_000);
});

describe('a model that ends with the token of tokenizer_config alone', () => {
  const plain = path.join(root, 'plain');
  const dir = path.join(root, 'ends');
  let prompt: Int32Array;
  const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const env = () => ({ ...pythonEnvironment(), OMP_NUM_THREADS: '1' });
  const lockstep = (...args: string[]) =>
    execFileSync(process.execPath, [cli, ...args], { env: env(), stdio: 'ignore' });

  /** Greedy ids, and why the answer ended. */
  async function answer(engine: Engine, at: string, maxTokens: number) {
    const [tokenizer, source] = [await loadTokenizer(at), await readContract(at)];
    const runner = steppedRunner(engine, tokenizer, source);
    try {
      const ask = { prompt, maxTokens, temperature: 0, stop: [], traced: false };
      const run = await runner.run(ask as never, new AbortController().signal);
      const ids: number[] = [];
      let reason = '';
      for await (const event of run.events) {
        if (event.type === 'token') ids.push(event.id);
        if (event.type === 'end') reason = event.reason;
      }
      return { ids, reason };
    } finally {
      await runner.close();
    }
  }

  let ids: number[];
  let last: number;
  beforeAll(async () => {
    const model = await tinyModel(path.join(root, 'model'));
    await attach({ config, modelDir: model, out: plain });
    lockstep('export', plain);
    prompt = await (await loadTokenizer(plain)).encode('O Romeo, Romeo! wherefore art thou');
    const free = await answer(await openOnnxEngine(plain, { threads: 1 }), plain, 12);
    expect(free).toMatchObject({ reason: 'length', ids: { length: 12 } });
    // A token that it comes to by itself, for the first time.
    last = free.ids.findIndex((id, at) => at > 1 && free.ids.indexOf(id) === at);
    expect(last).toBeGreaterThan(1);
    ids = free.ids.slice(0, last + 1);
    const file = path.join(model, 'tokenizer.json');
    const { vocab } = JSON.parse(readFileSync(file, 'utf8')).model as {
      vocab: Record<string, number>;
    };
    const text = Object.keys(vocab).find((word) => vocab[word] === ids[last]);
    const other = path.join(root, 'other');
    cpSync(model, other, { recursive: true });
    write(other, 'tokenizer_config.json', { eos_token: text });
    await attach({ config, modelDir: other, out: dir });
    lockstep('export', dir);
  }, 400_000);

  test('its contract names that token, and so has another digest', async () => {
    const [before, after] = [await readContract(plain), await readContract(dir)];
    expect(before.contract.tokenizer.ends).toEqual([0]);
    expect(after.contract.tokenizer.ends).toEqual([0, ids[last]]);
    expect(after.contract.digest).not.toBe(before.contract.digest);
  });

  test('onnx and torch end answers at the same token', async () => {
    const onnx = await answer(await openOnnxEngine(dir, { threads: 1 }), dir, 12);
    const torch = await answer(await openTorchEngine(dir, { threads: 1 }), dir, 12);
    expect(onnx).toEqual({ ids, reason: 'stop' });
    expect(torch).toEqual(onnx);
  });
});
