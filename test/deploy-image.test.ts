// The container images: each stage's COPYs in a folder, the build's last steps and the server run there. No registry and
// no container runtime is needed; `npm ci` and `tsc` are this repository's own.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { argumentsOf, copyStage, type Stage, stagesOf } from './helpers/containerfile.ts';
import { ServeProcesses } from './serve-processes.ts';
import { servedCheckpoint } from './served-checkpoint.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-image-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Both stages of an image, built; the folder of the last one. */
function build(name: string): string {
  const [first, last] = stagesOf(name) as [Stage, Stage];
  const built = path.join(folder, name, 'build');
  copyStage(first, built);
  // Node made these from the copied sources, as `RUN npm ci` and `tsc` would.
  symlinkSync(path.join(packageRoot, 'node_modules'), path.join(built, 'node_modules'));
  cpSync(path.join(packageRoot, 'dist'), path.join(built, 'dist'), { recursive: true });
  rmSync(path.join(built, 'dist', 'template', 'packages'), { recursive: true });
  for (const name of ['policy-runtime.v1.js', 'quickjs-ng.wasm']) {
    rmSync(path.join(built, 'python', 'lockstep', 'data', name), { force: true });
  }
  for (const script of ['generate-schema.mjs', 'copy-assets.mjs']) {
    const { status, stderr } = run(path.join(built, 'scripts', script), [], built);
    expect(stderr).toBe('');
    expect(status).toBe(0);
  }
  const image = path.join(folder, name, 'image');
  copyStage(last, image, built);
  return image;
}

/** Without a Python, and without the variables of this test. */
const bare = () => ({ PATH: path.dirname(process.execPath), HOME: folder });

function run(script: string, args: string[], cwd: string) {
  const env = bare();
  return spawnSync(process.execPath, [script, ...args], { cwd, env, encoding: 'utf8' });
}

describe('Containerfile.cpu', () => {
  let image: string;
  let program: string;
  let args: string[];
  let servers: ServeProcesses;
  const keys = () => path.join(folder, 'keys', 'keys.json');

  beforeAll(async () => {
    image = build('Containerfile.cpu');
    program = path.join(image, 'dist/cli/main.js');
    const command = argumentsOf(stagesOf('Containerfile.cpu')[1] as Stage, 'CMD')[0] as string;
    const dir = await servedCheckpoint(folder, "{{ messages[0]['content'] }}");
    const inside: Record<string, string> = {
      '/checkpoint': dir,
      '/etc/lockstep/keys.json': keys(),
      '0.0.0.0': '127.0.0.1',
      '8080': '0',
    };
    args = (JSON.parse(command) as string[]).map((word) => inside[word] ?? word);
    servers = new ServeProcesses(program, bare());
  });
  afterAll(() => servers?.close());

  test('does not start without keys', () => {
    const { status, stderr } = run(program, ['serve', ...args], folder);
    expect(stderr).toContain('LS_KEYS_FILE');
    expect(status).not.toBe(0);
  });

  test('serves a checkpoint to who has a key', async () => {
    mkdirSync(path.dirname(keys()));
    const made = run(program, ['keys', 'add', keys(), 'alice', '--json'], folder);
    const { key } = JSON.parse(made.stdout) as { key: string };
    const [dir, ...rest] = args as [string, ...string[]];
    const { url } = await servers.start(dir, ...rest);
    const ask = (authorization: string) =>
      fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization },
        body: JSON.stringify({ messages: [{ role: 'user', content: 'To be' }], max_tokens: 2 }),
      });
    expect((await ask('Bearer nobody')).status).toBe(401);
    const answer = await ask(`Bearer ${key}`);
    expect(await answer.json()).toMatchObject({ usage: { completion_tokens: 2 } });
  });
});

test('Containerfile.cuda: the command line runs', () => {
  const image = build('Containerfile.cuda');
  chmodSync(image, 0o555);
  const { status, stdout, stderr } = run(
    path.join(image, 'dist/cli/main.js'),
    ['serve', '--help'],
    folder,
  );
  chmodSync(image, 0o755);
  expect(stderr).toBe('');
  expect(stdout).toContain('--keys');
  expect(status).toBe(0);
});
