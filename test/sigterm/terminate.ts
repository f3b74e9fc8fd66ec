// SIGTERM to a real `lockstep serve` that has streams running: what becomes of each of them.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/paths.ts';
import { randomIntegers } from '../helpers/random.ts';
import { eventsOf, PROMPT } from '../server-client.ts';
import { foreseen } from '../vllm-foreseen.ts';

/**
 * `complete`: the whole answer, its finish reason, `[DONE]`. `refused`: no answer began; another server is to
 * be asked. `cut`: an answer began and did not end, or ended with something else.
 */
export interface Ended {
  complete: number;
  refused: number;
  cut: number;
  /** What the first cut streams came to. */
  problems: string[];
}

/**
 * Start a server, open streams, send SIGTERM among them, wait for all of them and for the process.
 *
 * @param upstream a fake vLLM
 * @param seed decides when the signal comes
 * @throws Error for a server that does not start, or leaves with another code than 0
 */
export async function terminate(dir: string, upstream: string, seed: number): Promise<Ended> {
  const random = randomIntegers(Math.imul(seed + 1, 2654435761));
  random(2);
  const { child, url } = await start(dir, upstream);
  const closed = once(child, 'close');
  const result: Ended = { complete: 0, refused: 0, cut: 0, problems: [] };
  // The signal comes once so many streams have begun; the others are on their way.
  let left = 1 + random(11);
  const begun = () => {
    left -= 1;
    if (left === 0) child.kill('SIGTERM');
  };
  const streams = Array.from({ length: 12 }, async (_, i) => {
    const [pause, most] = [random(120), 10 + random(40)];
    await sleep(pause);
    const outcome = await ask(url, `${seed}/${i}: ${PROMPT}`, most, begun);
    if (outcome !== 'complete' && outcome !== 'refused') {
      result.cut += 1;
      result.problems.push(`seed ${seed}, stream ${i}: ${outcome}`);
    } else result[outcome] += 1;
  });
  await Promise.all(streams);
  const [code, signal] = await closed;
  if (code !== 0) throw new Error(`seed ${seed}: expected exit code 0, got ${code ?? signal}`);
  return result;
}

/** Several of them one after the other, their outcomes added up. */
export async function terminateMany(
  dir: string,
  upstream: string,
  from: number,
  count: number,
): Promise<Ended> {
  const all: Ended = { complete: 0, refused: 0, cut: 0, problems: [] };
  for (let seed = from; seed < from + count; seed++) {
    const { complete, refused, cut, problems } = await terminate(dir, upstream, seed);
    all.complete += complete;
    all.refused += refused;
    all.cut += cut;
    all.problems.push(...problems);
    if (count > 100 && (seed - from) % 50 === 49) {
      process.stderr.write(`${seed - from + 1} SIGTERMs: ${JSON.stringify(all)}\n`);
    }
  }
  return all;
}

async function start(dir: string, upstream: string): Promise<{ child: ChildProcess; url: string }> {
  const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const flags = ['--engine', 'vllm', '--upstream', upstream, '--port', '0', '--json'];
  const child = spawn(process.execPath, [main, 'serve', dir, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  child.stderr.on('data', (text) => {
    printed += text;
  });
  const lines = createInterface({ input: child.stdout });
  const failed = once(child, 'close').then(() => {
    throw new Error(`the server ended before it was ready: ${printed}`);
  });
  const [line] = (await Promise.race([once(lines, 'line'), failed])) as [string];
  failed.catch(() => {});
  const { url } = JSON.parse(line) as { url: string };
  while ((await fetch(`${url}/health/ready`)).status !== 200) await sleep(20);
  return { child, url };
}

async function ask(url: string, prompt: string, most: number, begun: () => void): Promise<string> {
  let response: Response;
  try {
    response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: most, stream: true }),
    });
  } catch {
    return 'refused';
  }
  if (response.status !== 200) {
    const text = await response.text();
    return response.status === 503 && text.includes('shutting_down') ? 'refused' : text;
  }
  try {
    let first = true;
    const { events, done } = await eventsOf(response, () => {
      if (first) begun();
      first = false;
    });
    const text = events.map((event) => event.choices?.[0]?.text ?? '').join('');
    const reason = events.at(-1)?.choices?.[0]?.finish_reason;
    if (done && reason === 'length' && text === foreseen(prompt, most)) return 'complete';
    return `${done ? 'wrong' : 'unfinished'}: ${JSON.stringify(events.at(-1))}`;
  } catch (error) {
    return `broken: ${String(error)}`;
  }
}
