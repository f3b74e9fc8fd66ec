// The last stage: a server as its own process, and one completion over HTTP.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { LockstepError } from '../../errors.ts';
import { shellWord } from '../../shell-word.ts';
import { spawnStage } from './stage.ts';

export interface RunningServer {
  url: string;
  /** Settles when the server's process ends. */
  closed: Promise<unknown>;
  stop(): Promise<void>;
}

/** Starts `lockstep serve` and waits until it says that it is ready. `port` 0 takes a free one. */
export async function startServer(
  checkpoint: string,
  port: number,
  signal: AbortSignal,
): Promise<RunningServer> {
  const args = ['serve', checkpoint, '--engine', 'onnx', '--port', `${port}`];
  process.stderr.write(`\n● serve   lockstep ${args.map(shellWord).join(' ')}\n`);
  const child = spawnStage([...args, '--json'], signal);
  const closed = once(child, 'close');
  const url = await addressOf(child.stdout as Readable);
  if (url !== undefined) {
    return {
      url,
      closed,
      async stop() {
        child.kill('SIGTERM');
        await closed;
      },
    };
  }
  await closed;
  signal.throwIfAborted();
  throw new LockstepError(
    'LS_QUICKSTART_SERVE',
    `expected the server to become ready on port ${port}, got exit code ${child.exitCode}.`,
    { fix: 'Read the lines above, or choose another port with --port.' },
  );
}

/** What the line of a server that is ready says; undefined where it ends without one. */
async function addressOf(stdout: Readable): Promise<string | undefined> {
  const lines = createInterface({ input: stdout });
  const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
  lines.close();
  stdout.resume();
  return line === undefined ? undefined : (JSON.parse(line) as { url: string }).url;
}

/** One completion of `prompt`, the same each time for the same weights. */
export async function complete(url: string, prompt: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt, max_tokens: 48, temperature: 0.7, seed: 7 }),
    signal,
  });
  const body = (await response.json()) as {
    choices?: { text: string }[];
    error?: { message: string };
  };
  const text = body.choices?.[0]?.text;
  if (text === undefined) {
    throw new LockstepError(
      'LS_QUICKSTART_COMPLETION',
      `expected a completion, got status ${response.status}: ${body.error?.message ?? 'no reason'}.`,
      { fix: 'Run lockstep serve by hand and look at its log.' },
    );
  }
  return text;
}
