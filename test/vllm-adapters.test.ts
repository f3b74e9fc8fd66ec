// Adapters over one base: which are refused before vLLM starts, and how requests choose one.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../src/contract/digest.ts';
import { openAdapters } from '../src/engines/vllm/index.ts';
import { prefixKeys } from '../src/engines/vllm/route.ts';
import { createServer, type ServerOptions } from '../src/server/index.ts';
import { Traces } from '../src/server/traces.ts';
import { closeCollectors, collector } from './collector.ts';
import { type Any, clientOf, until } from './server-client.ts';
import { fakeVllms } from './vllm-fixture.ts';

const vllm = fakeVllms();
let folder: string;
afterEach(closeCollectors);
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-adapters-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** An adapter's folder; Node reads no matrix, so that any bytes do. */
async function adapter(changes: { seal?: object; config?: object } = {}): Promise<string> {
  const dir = await mkdtemp(path.join(folder, 'a-'));
  const { contract } = vllm.toy.files;
  const files = {
    'adapter_config.json': JSON.stringify({ peft_type: 'LORA', r: 4, ...changes.config }),
    'adapter_model.safetensors': 'matrices',
  };
  const seal = {
    adapter: 1,
    contract: contract.digest,
    base: contract.trained.weights.sha256,
    files: Object.fromEntries(Object.entries(files).map(([name, text]) => [name, sha256(text)])),
    trained: { steps: 1, tokens: 1 },
    ...changes.seal,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(dir, name), text);
  await writeFile(path.join(dir, 'lockstep-adapter.json'), JSON.stringify(seal));
  return dir;
}

const open = (...given: string[]) => openAdapters(given, 'toy', vllm.toy.files.contract);

describe('before vLLM starts', () => {
  test('an adapter of the contract and of the base is taken', async () => {
    const [one, two] = [await adapter(), await adapter({ config: { r: 16 } })];
    const found = await open(`law=${one}`, `tales/old=${two}`);
    expect(found.map(({ name, dir, rank }) => [name, dir, rank])).toEqual([
      ['law', one, 4],
      ['tales/old', two, 16],
    ]);
    expect(found[0]?.sha256).not.toBe(found[1]?.sha256);
  });

  const other = '0'.repeat(64);
  test.each([
    ['LS_ADAPTER_CONTRACT', { seal: { contract: other } }],
    ['LS_ADAPTER_BASE', { seal: { base: other } }],
    ['LS_ADAPTER_RANK', { config: { r: 513 } }],
    ['LS_ADAPTER_FILE', { seal: { adapter: 2 } }],
    ['LS_ADAPTER_FILE', { seal: { files: {} } }],
    ['LS_ADAPTER_FILE', { config: { peft_type: 'LOHA' } }],
  ])('%s %j', async (code, changes) => {
    await expect(open(`a=${await adapter(changes)}`)).rejects.toMatchObject({
      code,
      fix: expect.any(String),
    });
  });

  test('a file that was changed, or is missing, is named', async () => {
    const dir = await adapter();
    await writeFile(path.join(dir, 'adapter_model.safetensors'), 'other matrices');
    const file = { code: 'LS_ADAPTER_FILE' };
    await expect(open(`a=${dir}`)).rejects.toMatchObject({
      ...file,
      field: 'adapter_model.safetensors',
    });
    await rm(path.join(dir, 'adapter_model.safetensors'));
    await expect(open(`a=${dir}`)).rejects.toMatchObject(file);
    await expect(open(`a=${folder}`)).rejects.toMatchObject({
      ...file,
      field: 'lockstep-adapter.json',
    });
  });

  test('names are one each, and can be written', async () => {
    const dir = await adapter();
    const doubled = { code: 'LS_ADAPTER_NAME' };
    await expect(open(`a=${dir}`, `a=${dir}`)).rejects.toMatchObject(doubled);
    await expect(open(`toy=${dir}`)).rejects.toMatchObject(doubled);
    await expect(open(`lockstep:x=${dir}`)).rejects.toMatchObject(doubled);
    await expect(open(dir)).rejects.toMatchObject({ code: 'LS_USAGE' });
    await expect(open(`=${dir}`)).rejects.toMatchObject({ code: 'LS_USAGE' });
  });
});

const none = { tokens: 0, boundaries: 0, positions: 0, milliseconds: 0 };
const probe = { status: 'absent', ...none, off: null, bound: null, kind: null };

/** A server in front of a fake that says it has these adapters. */
async function serving(
  has: readonly { name: string; sha256: string }[],
  dir: string,
  options: ServerOptions = {},
) {
  const adapters = await open(`law=${dir}`);
  const fake = await vllm.opened.fake(
    ...['--adapters', JSON.stringify(has.map((one) => ({ ...one, probe })))],
  );
  const { useVllm } = await import('../src/engines/vllm/index.ts');
  const parts = { ...vllm.opened.parts(), adapters };
  const engine = await useVllm(parts, [fake.url], { watchMs: 50 });
  const server = createServer({
    engine: engine.relay,
    tokenizer: vllm.toy.tokenizer,
    contract: vllm.toy.files,
    options: {
      model: 'toy',
      drainMs: 500,
      ...options,
      adapters: adapters.map(({ name }) => ({ name, runner: engine.relay.adapter(name) })),
    },
  });
  const { url, port } = await server.listen(0);
  return { fake, server, ...clientOf(url, port) };
}

describe('requests', () => {
  test('choose an adapter or the base by name, and the answer says which', async () => {
    const dir = await adapter();
    const [{ sha256 = '' } = {}] = await open(`law=${dir}`);
    const { client, fake, server, url } = await serving([{ name: 'law', sha256 }], dir);
    try {
      await until(async () => (await fetch(`${url}/health/ready`)).status === 200);
      const ask = { prompt: 'Once. ', max_tokens: 4 };
      const law = await client.completions.create({ model: 'law', ...ask });
      const base = await client.completions.create({ model: 'toy', ...ask });
      const bare = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(ask),
      });
      const chat = await client.chat.completions.create({
        ...{ model: 'law', messages: [{ role: 'user', content: 'Once.' }], max_tokens: 4 },
      });
      expect([law.model, base.model, chat.model]).toEqual(['law', 'toy', 'law']);
      // Without a name it is the base, as before there were adapters.
      expect(((await bare.json()) as Any).model).toBe('toy');
      const { bodies } = await fake.seen();
      expect(bodies.map((body) => body.model)).toEqual(['law', undefined, undefined, 'law']);
      await expect(client.completions.create({ model: 'tales', ...ask })).rejects.toMatchObject({
        status: 404,
        code: 'model_not_found',
        message: expect.stringContaining('`toy` and `law` are'),
      });
      const { data } = await client.models.list();
      expect(data.map((card: Any) => [card.id, card.parent])).toEqual([
        ['toy', undefined],
        ['law', 'toy'],
      ]);
      expect(await client.models.retrieve('law')).toMatchObject({ id: 'law', parent: 'toy' });
      const metrics = await (await fetch(`${url}/metrics`)).text();
      expect(metrics).toContain('lockstep_tokens_total{model="law",kind="completion"} 8');
      expect(metrics).toContain('lockstep_tokens_total{model="toy",kind="completion"} 8');
    } finally {
      await server.close();
    }
  });

  test('traces have no spans of segments, neither of an adapter nor of the base: they run in vLLM', async () => {
    const dir = await adapter();
    const [{ sha256 = '' } = {}] = await open(`law=${dir}`);
    const { url, spans } = await collector();
    const traces = new Traces(url, pino({ level: 'silent' }));
    const { post, server, ...own } = await serving([{ name: 'law', sha256 }], dir, { traces });
    await until(async () => (await fetch(`${own.url}/health/ready`)).status === 200);
    for (const model of ['law', 'toy']) {
      const ask = { model, prompt: 'Once upon a time it was. '.repeat(20), max_tokens: 4 };
      expect((await post('/v1/completions', ask)).status).toBe(200);
    }
    await server.close();
    const names = spans().map(({ name }) => name);
    expect(names.filter((name) => name === 'prefill')).toHaveLength(2);
    expect(names).not.toContain('segment');
    expect(JSON.stringify(spans())).not.toContain('lockstep.segments');
  });

  test('a vLLM without the adapter, or with another of its name, is not ready', async () => {
    const dir = await adapter();
    for (const has of [[], [{ name: 'law', sha256: '0'.repeat(64) }]]) {
      const { server, url } = await serving(has, dir);
      try {
        let told: Any = {};
        await until(async () => {
          told = await (await fetch(`${url}/health/ready`)).json();
          return told.error?.code === 'LS_VLLM_ADAPTER';
        });
        expect(told.error.message).toContain('law');
      } finally {
        await server.close();
      }
    }
  });

  test('a prompt’s replica is another for each adapter', () => {
    const prompt = Int32Array.of(1, 2, 3);
    const keys = [undefined, 'law', 'tales'].map((name) => prefixKeys(prompt, [2], name)[0]);
    expect(new Set(keys).size).toBe(3);
  });
});

test('no other engine takes adapters', async () => {
  const { checkChoice } = await import('../src/cli/serve/engine.ts');
  const choice = { engine: 'torch', adapter: ['a=b'], probe: true, log: 'error' } as const;
  await expect(checkChoice({ ...choice, adapter: [...choice.adapter] }, [])).rejects.toMatchObject({
    code: 'LS_USAGE',
    field: 'adapter',
  });
});
