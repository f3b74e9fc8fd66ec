// OpenAI's clients in front of the embedded engines: a tool loop, and a conversation whose answers go back.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { engineArguments, ServeProcesses, type Serving } from '../serve-processes.ts';
import { temporaryFolder } from '../tiny-checkpoint.ts';
import { makeCheckpoint, makeModel } from './checkpoint.ts';
import {
  type ClientName,
  checkCached,
  checkCalls,
  checkFresh,
  checkPrompts,
  clients,
  hasPythonClient,
  replayed,
} from './checks.ts';

const folder = temporaryFolder('clients');
const processes = new ServeProcesses();
const names = (Object.keys(clients) as ClientName[]).filter(
  (name) => name !== 'Python' || hasPythonClient,
);
const replays = new Map<string, unknown>();
let dir: string;

beforeAll(async () => {
  dir = await makeCheckpoint(
    await makeModel(path.join(folder, 'model')),
    path.join(folder, 'tiny'),
  );
}, 300_000);
afterAll(async () => {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.each(['onnx', 'torch'] as const)('%s', { timeout: 1_200_000 }, (engine) => {
  let server: Serving;
  let fresh: Serving;
  beforeAll(async () => {
    const args = engineArguments(engine);
    server = await processes.start(dir, ...args);
    fresh = await processes.start(dir, ...args, '--cache-bytes', '0');
  }, 300_000);

  test.each(names)('the %s client', async (name) => {
    const exchanges = await clients[name](server.url);
    await checkCalls(dir, exchanges);
    await checkPrompts(dir, server, exchanges);
    await checkFresh(fresh, exchanges);
    const { prefix } = await server.engine();
    expect(prefix.hits).toBeGreaterThan(exchanges.length);
    checkCached(exchanges);
    replays.set(`${engine} ${name}`, replayed(exchanges));
  });
});

test('every client and engine read the same answers', () => {
  expect(replays.size).toBe(2 * names.length);
  const [first, ...others] = replays.values();
  for (const other of others) expect(other).toEqual(first);
});
