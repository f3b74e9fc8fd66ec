// examples/chat as its README says: the commands of its first block, on the real model and real
// conversations, only fewer of them and fewer steps.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { readmeCommands } from './helpers/readme.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const run = promisify(execFile);
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, NO_COLOR: '1' };
const example = path.join(packageRoot, 'examples', 'chat');
const readme = readFileSync(path.join(example, 'README.md'), 'utf8');
let home: string;
let served: ChildProcess | undefined;

/** The README's commands by their first word, with this test's config, folder and port. */
function commands(): Record<string, string[]> {
  const found = readmeCommands('chat').map((line) =>
    line
      .replace(/^npx lockstep /, '')
      .replace('examples/chat/lockstep.config.ts', 'lockstep.config.ts')
      .replaceAll('.lockstep/runs/chat', 'chat')
      .replace('--port 8080', '--port 0')
      .split(' '),
  );
  return Object.fromEntries(found.map((args) => [args[0], args]));
}

beforeAll(() => {
  home = temporaryFolder('example-chat');
  const file = path.join(packageRoot, '.lockstep/texts/chitchat/conversations.jsonl');
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, 60);
  writeFileSync(path.join(home, 'chats.jsonl'), lines.join('\n'));
  writeFileSync(
    path.join(home, 'lockstep.config.ts'),
    `import { defineConfig } from 'lockstep';
import recipe from '${path.join(example, 'lockstep.config.ts')}';
export default defineConfig({
  ...recipe,
  model: '${path.join(packageRoot, '.lockstep/models/smollm2-135m-instruct')}',
  out: 'chat',
  data: { ...recipe.data, train: ['chats.jsonl'], validation: 0.1, validationDocuments: 2 },
  training: { ...recipe.training, minutes: undefined, steps: 2, sequence: 384, heldOutTokens: 256 },
});
`,
  );
});
afterAll(() => {
  served?.kill('SIGKILL');
  rmSync(home, { recursive: true, force: true });
});

it('trains on conversations, verifies the checkpoint and serves it', async () => {
  const { train, verify, serve } = commands();
  const lockstep = async (args: string[] = []): Promise<Record<string, never>[]> => {
    const command = [cli, ...args, '--json'];
    const { stdout } = await run(process.execPath, command, { cwd: home, env });
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  };

  const events = await lockstep(train);
  const { read } = events.find(({ event }) => event === 'start') as unknown as {
    read: { formats: object; loss: string; end: string; tokens: number; targets: number };
  };
  expect(read).toMatchObject({
    formats: { messages: 1 },
    loss: 'assistant',
    end: '<|im_end|>',
  });
  // What the user says is read and is no target.
  expect(read.targets).toBeGreaterThan(0.3 * read.tokens);
  expect(read.targets).toBeLessThan(0.7 * read.tokens);
  // Of held-out conversations the answers alone are scored, too.
  const { scores, step } = events.at(-1) as unknown as {
    scores: { before: number; after: number };
    step: number;
  };
  expect(step).toBe(2);
  expect(scores.after).toBeLessThan(scores.before - 0.02);

  const [judged] = (await lockstep([...(verify ?? []), '--tokens', '128'])) as unknown as [
    { ok: boolean },
  ];
  expect(judged).toMatchObject({ ok: true });

  served = spawn(process.execPath, [cli, ...(serve ?? []), '--json'], { cwd: home, env });
  const output = createInterface({ input: served.stdout as NodeJS.ReadableStream });
  const [line] = (await once(output, 'line')) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const [, body] = /-d '(\{.*?\})'/.exec(readme) ?? [];
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...JSON.parse(body ?? ''), max_tokens: 12, temperature: 0 }),
  });
  expect(answer.status).toBe(200);
  const { choices, usage } = (await answer.json()) as {
    choices: { message: { content: string } }[];
    usage: { completion_tokens: number };
  };
  expect(choices[0]?.message.content.trim()).not.toBe('');
  expect(usage.completion_tokens).toBeLessThanOrEqual(12);
}, 1_500_000);
