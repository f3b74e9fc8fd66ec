// `lockstep serve --config`: what a file may say, what is refused with which code and place, and vLLM behind it.
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { writeContract } from '../../src/checkpoint/write.ts';
import { checkServe, defineServe, loadServe } from '../../src/config/index.ts';
import { type Any, eventsOf, PROMPT, until } from '../server-client.ts';
import { makeToy, type Toy } from '../server-toy.ts';
import { foreseen } from '../vllm-foreseen.ts';
import { Opened } from '../vllm-upstream.ts';
import { ask, configFile, running, serve, start, temporary } from './fixture.ts';

vi.setConfig({ testTimeout: 180_000 });

let folder: string;
let toy: Toy;
let other: Toy;
let config: ReturnType<typeof configFile>;
const vllms: Opened[] = [];

beforeAll(async () => {
  folder = await temporary();
  config = configFile(folder);
  toy = await makeToy(null);
  other = await makeToy(null, ['<|more|>']);
  for (const one of [toy, other]) await writeContract(one.dir, one.files);
});
afterEach(async () => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
  await Promise.all(vllms.splice(0).map((one) => one.close()));
});
afterAll(async () => {
  for (const dir of [folder, toy.dir, other.dir]) await rm(dir, { recursive: true, force: true });
});

/** A fake vLLM that runs by itself, of this checkpoint. */
async function fakeOf(of: Toy, ...args: string[]): Promise<string> {
  const opened = new Opened(of);
  vllms.push(opened);
  return (await opened.fake(...args)).url;
}

/** A vLLM that is not there: the server starts all the same, unless something is refused. */
const absent = { engine: 'vllm' as const, upstream: ['http://127.0.0.1:9'] };

describe('the file', () => {
  const model = { name: 'one', dir: 'a' };
  const refused = (value: unknown) => {
    try {
      checkServe(value, 'serve.config.ts');
    } catch (error) {
      const { code, message, field, fix } = error as Any;
      expect(fix).toBeTruthy();
      return [code, field, message];
    }
    return null;
  };

  test.each([
    [{ models: [] }, 'LS_SERVE_CONFIG', 'models', 'at least 1 entry, got []'],
    [{}, 'LS_SERVE_CONFIG', 'models', 'expected a list, got nothing'],
    [{ models: [{ name: 'x' }] }, 'LS_SERVE_CONFIG', 'models[0].dir', 'expected a string'],
    [{ models: [{ ...model, threads: 0 }] }, 'LS_SERVE_CONFIG', 'models[0].threads', 'got 0'],
    [{ models: [{ ...model, engine: 'ggml' }] }, 'LS_SERVE_CONFIG', 'models[0].engine', '"torch"'],
    [{ models: [{ ...model, tred: 1 }] }, 'LS_SERVE_CONFIG', 'models[0].tred', 'no such option'],
    [
      { models: [model], ports: 1 },
      'LS_SERVE_CONFIG',
      'ports',
      'no such option (did you mean port?), got 1',
    ],
    [{ models: [model], rate: 0 }, 'LS_SERVE_CONFIG', 'rate', 'got 0'],
    [
      { models: [model, model] },
      'LS_SERVE_NAMES',
      'models[1].name',
      'which models[0].name also has',
    ],
    [
      { models: [model, { ...model, name: 'two', aliases: ['x', 'one'] }] },
      'LS_SERVE_NAMES',
      'models[1].aliases[1]',
      'got "one", which models[0].name also has',
    ],
    [
      { models: [{ ...model, aliases: ['x', 'x'] }] },
      'LS_SERVE_NAMES',
      'models[0].aliases[1]',
      'which models[0].aliases[0] also has',
    ],
  ])('%j is refused', (value, code, field, words) => {
    expect(refused(value)).toEqual([code, field, expect.stringContaining(words)]);
  });

  test('TypeScript, JavaScript and JSON say the same; paths are relative to the file', async () => {
    const value = defineServe({ models: [{ name: 'a', dir: '../x' }], keys: 'keys.json', port: 1 });
    const text = JSON.stringify(value);
    const files = {
      'serve.config.ts': `import { defineServe } from 'lockstep';\nconst n: number = 1;\nexport default defineServe({ ...${text}, port: n });`,
      'serve.config.js': `export default ${text};`,
      'serve.config.json': text,
    };
    for (const [name, source] of Object.entries(files)) {
      const file = path.join(folder, name);
      await writeFile(file, source);
      const { models, server } = await loadServe(file);
      expect(models).toMatchObject([{ name: 'a', dir: path.join(folder, '../x'), engine: 'onnx' }]);
      expect(server).toEqual({ port: 1, keys: path.join(folder, 'keys.json') });
    }
    await expect(loadServe(path.join(folder, 'none.ts'))).rejects.toThrow('got none at');
  });
});

describe('what is refused at the start', () => {
  test.each([
    [{ threads: 2 }, 'LS_SERVE_OPTION', '.threads: expected no threads with engine vllm'],
    [{ cacheBytes: 2 }, 'LS_SERVE_OPTION', '.cacheBytes: expected no cacheBytes with engine vllm'],
    [{ replicas: 2 }, 'LS_SERVE_OPTION', '.replicas: expected no replicas with upstream'],
    [{ probe: false }, 'LS_SERVE_OPTION', '.probe: expected no'],
    [{ precision: 'int3' }, 'LS_SERVE_OPTION', '.precision: expected precision float32'],
    [{ flags: ['--seed', '1'] }, 'LS_SERVE_OPTION', '.flags: expected no flags of vLLM'],
  ])('an option without effect on the engine: %j', async (option, code, words) => {
    const dir = toy.dir;
    await config.write({
      models: [
        { name: 'a', dir, ...absent },
        { name: 'b', dir, ...absent, ...option },
      ],
    });
    const { ended, stderr } = start(['--config', config.file, '--port', '0']);
    expect(await ended).toBe(1);
    expect(stderr()).toContain(`${code}:`);
    expect(stderr()).toContain(`serve.config.json: models[1]${words}`);
    expect(stderr()).toContain('fix:');
  });

  test.each([
    [['--threads', '2'], 'expected no --threads with --config'],
    [['--stall-timeout', '2'], 'expected no --stall-timeout with --config'],
    [['--engine', 'onnx'], 'expected no --engine with --config'],
    [['--no-probe'], 'expected no --no-probe with --config'],
    [['--rate', '5'], 'expected --rate or `rate` in'],
    [['--exit-when-lost'], 'expected the engine onnx or torch with --exit-when-lost, got vllm'],
    [['somewhere'], 'expected a checkpoint or --config, got both'],
  ])('%j beside the file', async (options, words) => {
    await config.write({ models: [{ name: 'a', dir: toy.dir, ...absent }], rate: 3 });
    const { ended, stderr } = start(['--config', config.file, '--port', '0', ...options]);
    expect(await ended).toBe(2);
    expect(stderr()).toContain('LS_USAGE');
    expect(stderr()).toContain(words);
  });

  test('neither a folder nor a file; a folder without a contract; a file that is not there', async () => {
    const neither = start(['--port', '0']);
    expect([await neither.ended, neither.stderr()]).toEqual([
      2,
      expect.stringContaining('expected a checkpoint or --config, got neither'),
    ]);
    await config.write({ models: [{ name: 'a', dir: folder, ...absent }] });
    const bare = start(['--config', config.file, '--port', '0']);
    expect(await bare.ended).toBe(1);
    expect(bare.stderr()).toMatch(/LS_CONTRACT_MISSING: .*serve\.config\.json: models\[0\]: /);
    const none = start(['--config', path.join(folder, 'none.json'), '--port', '0']);
    expect(await none.ended).toBe(1);
    expect(none.stderr()).toContain('LS_CONFIG_MISSING');
  });
});

describe('vLLMs', () => {
  test('each is asked for its own model; one that is removed ends its streams', async () => {
    const [one, two] = [await fakeOf(toy), await fakeOf(other, '--delay', '0.02')];
    const models = [
      { name: 'one', dir: toy.dir, engine: 'vllm' as const, upstream: [one], aliases: ['uno'] },
      { name: 'two', dir: other.dir, engine: 'vllm' as const, upstream: [two] },
    ];
    await config.write({ models, maxQueue: 3 });
    const served = await serve('--config', config.file);
    const { url, told } = served;
    expect(told[0].models.map((each: Any) => [each.model, each.digest])).toEqual([
      ['one', toy.files.contract.digest],
      ['two', other.files.contract.digest],
    ]);
    await until(async () => (await served.get('/health/ready'))[0] === 200, 20);
    for (const [model, name] of [
      ['uno', 'one'],
      ['two', 'two'],
    ]) {
      const answer = await ask(served, { model, prompt: PROMPT, max_tokens: 8 });
      expect([answer?.model, answer?.text]).toEqual([name, foreseen(PROMPT, 8)]);
    }
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics.match(/^# TYPE vllm:num_preemptions_total/gm)).toHaveLength(1);
    for (const name of ['one', 'two']) {
      expect(metrics).toMatch(
        new RegExp(`^vllm:num_preemptions_total\\{.*model="${name}"\\} 3`, 'm'),
      );
    }
    const body = { model: 'two', prompt: PROMPT, max_tokens: 200, stream: true };
    const stream = await served.post('/v1/completions', body);
    await config.write({ models: models.slice(0, 1), maxQueue: 3 });
    expect(await served.hangUp()).toMatchObject({ removed: ['two'] });
    expect(await ask(served, { ...body, stream: false })).toBeNull();
    const { events, done } = await eventsOf(stream);
    const text = events.map((event) => event.choices[0]?.text ?? '').join('');
    expect([done, text]).toEqual([true, foreseen(PROMPT, 200)]);
    served.child.kill('SIGTERM');
    expect(await served.ended).toBe(0);
  });

  test('rate: off in the file sets no limit, a number does', async () => {
    const models = [{ name: 'one', dir: toy.dir, ...absent }];
    for (const [rate, policy] of [
      ['off', null],
      [7, expect.stringContaining('q=7; w=60')],
    ] as const) {
      await config.write({ models, host: '0.0.0.0', rate });
      const { url } = await serve('--config', config.file);
      const response = await fetch(`${url}/v1/models`);
      expect([response.status, response.headers.get('ratelimit-policy')]).toEqual([200, policy]);
    }
  });

  test('a key that an environment variable holds is there for models that come later', async () => {
    const urls = [await fakeOf(toy), await fakeOf(toy)];
    const models = urls.map((url, i) => ({
      name: `v${i}`,
      dir: toy.dir,
      engine: 'vllm' as const,
      upstream: [url],
      upstreamKey: 'UPSTREAM_KEY',
    }));
    await config.write({ models: models.slice(0, 1) });
    process.env['UPSTREAM_KEY'] = 'sk-up';
    const served = await serve('--config', config.file).finally(() => {
      delete process.env['UPSTREAM_KEY'];
    });
    await config.write({ models });
    expect(await served.hangUp()).toMatchObject({ added: ['v1'] });
    await until(async () => (await served.get('/health/ready'))[0] === 200, 20);
    for (const url of urls) {
      // The empty one is this test's own.
      const { keys } = (await (await fetch(`${url}/seen`)).json()) as Any;
      expect(keys).toEqual(['', 'Bearer sk-up']);
    }
  });
});
