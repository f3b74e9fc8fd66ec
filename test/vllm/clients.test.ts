// OpenAI's clients in front of the real vLLM: the steps of test/clients, and the answers of the torch engine.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findPython } from '../../src/bridge/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { makeCheckpoint, makeModel } from '../clients/checkpoint.ts';
import {
  type ClientName,
  checkCalls,
  checkFresh,
  checkPrompts,
  clients,
  replayed,
} from '../clients/checks.ts';
import { engineArguments, ServeProcesses, type Serving } from '../serve-processes.ts';
import { temporaryFolder } from '../tiny-checkpoint.ts';

const folder = temporaryFolder('clients-vllm');
const processes = new ServeProcesses();
const replays: unknown[] = [];
let dir: string;
let server: Serving;
let fresh: Serving;
let torch: Serving;

beforeAll(async () => {
  const { executable } = await findPython({ modules: vllmModules });
  dir = await makeCheckpoint(
    await makeModel(path.join(folder, 'model')),
    path.join(folder, 'tiny'),
  );
  const start = (engine: 'torch' | 'vllm', ...flags: string[]) =>
    processes.start(dir, '--python', executable, ...engineArguments(engine, flags));
  server = await start('vllm');
  fresh = await start('vllm', '--no-enable-prefix-caching');
  torch = await start('torch');
});
afterAll(async () => {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
});

test.each(Object.keys(clients) as ClientName[])('the %s client', async (name) => {
  const exchanges = await clients[name](server.url);
  await checkCalls(dir, exchanges);
  await checkPrompts(dir, server, exchanges);
  await checkFresh(fresh, exchanges);
  expect((await server.engine()).prefixCache.hits).toBeGreaterThan(0);
  replays.push(replayed(exchanges));
});

test('its answers are those of the torch engine, whatever the client', async () => {
  const exchanges = await clients.JavaScript(torch.url);
  expect(replays).toHaveLength(Object.keys(clients).length);
  for (const replay of replays) expect(replay).toEqual(replayed(exchanges));
});
