// The last stage: a server as its own process, and one completion over HTTP.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockstepError } from '../../errors.ts';
import { freePort } from '../../free-port.ts';
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
  const chosen = port === 0 ? await freePort() : port;
  const args = ['serve', checkpoint, '--engine', 'onnx', '--port', `${chosen}`];
  process.stderr.write(`\n● serve   lockstep ${args.join(' ')}\n`);
  const child = spawnStage(args, signal);
  child.stdout?.pipe(process.stderr);
  const closed = once(child, 'close');
  const url = `http://127.0.0.1:${chosen}`;
  while (child.exitCode === null && !signal.aborted) {
    const ready = await fetch(`${url}/health/ready`).catch(() => undefined);
    if (ready?.ok) {
      return {
        url,
        closed,
        async stop() {
          child.kill('SIGTERM');
          await closed;
        },
      };
    }
    await sleep(100);
  }
  child.kill('SIGTERM');
  throw new LockstepError(
    'LS_QUICKSTART_SERVE',
    `expected the server to become ready on port ${chosen}, got exit code ${child.exitCode}.`,
    { fix: 'Read the lines above, or choose another port with --port.' },
  );
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
