// `lockstep serve` as a process in front of several tiny checkpoints, and what it prints.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { ServeInput } from '../../src/config/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { type Any, clientOf, eventsOf, until } from '../server-client.ts';

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');

export const temporary = () => mkdtemp(path.join(os.tmpdir(), 'lockstep-serve-config-'));

export interface Serving extends ReturnType<typeof clientOf> {
  child: ChildProcess;
  /** JSON lines of stdout. */
  told: Any[];
  stderr(): string;
  ended: Promise<number | null>;
  get(where: string): Promise<[status: number, body: Any]>;
  /** Send SIGHUP and wait until the models were read again. */
  hangUp(): Promise<Any>;
}

/** Processes of a test file; end them after each test. */
export const running: ChildProcess[] = [];

export function start(args: readonly string[]) {
  const child = spawn(process.execPath, [main, 'serve', ...args], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  running.push(child);
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, stderr: () => stderr, ended };
}

export async function serve(...args: string[]): Promise<Serving> {
  const started = start([...args, '--port', '0', '--json']);
  const told: Any[] = [];
  createInterface({ input: started.child.stdout }).on('line', (line) =>
    told.push(JSON.parse(line)),
  );
  let over = false;
  void started.ended.then(() => {
    over = true;
  });
  await until(() => told.length > 0 || over, 90);
  if (told.length === 0) throw new Error(started.stderr());
  const { url } = told[0] as { url: string };
  return {
    ...started,
    told,
    ...clientOf(url, Number(new URL(url).port)),
    async get(where) {
      const response = await fetch(`${url}${where}`);
      return [response.status, await response.json()];
    },
    async hangUp() {
      const before = told.length;
      started.child.kill('SIGHUP');
      await until(() => told.length > before, 60);
      return told[before];
    },
  };
}

/** A serve.config.json that can be written again. */
export function configFile(folder: string) {
  const file = path.join(folder, 'serve.config.json');
  return {
    file,
    write: (config: ServeInput | string) =>
      writeFile(file, typeof config === 'string' ? config : JSON.stringify(config)),
  };
}

/** What an answer is judged by. */
export interface Answer {
  model: string;
  fingerprint: string;
  text: string;
  finish: string;
}

/** Ask for a completion; null: the model is not served. Anything but a whole answer is an error. */
export async function ask(served: Pick<Serving, 'post'>, body: Any): Promise<Answer | null> {
  const response = await served.post('/v1/completions', body);
  if (response.status === 404) {
    const { error } = (await response.json()) as Any;
    if (error.code === 'model_not_found') return null;
    throw new Error(JSON.stringify(error));
  }
  if (response.status !== 200) throw new Error(await response.text());
  if (!body.stream) {
    const { model, system_fingerprint: fingerprint, choices } = (await response.json()) as Any;
    return { model, fingerprint, text: choices[0].text, finish: choices[0].finish_reason };
  }
  const { events, done } = await eventsOf(response);
  const finish = events.at(-1)?.choices?.[0]?.finish_reason;
  if (!done || !finish) throw new Error(`cut: ${JSON.stringify(events.at(-1))}`);
  const one = (field: string) => {
    const values = new Set(events.map((event) => event[field]));
    if (values.size !== 1) throw new Error(`several of ${field}: ${[...values]}`);
    return events[0][field] as string;
  };
  const text = events.map((event) => event.choices[0]?.text ?? '').join('');
  return { model: one('model'), fingerprint: one('system_fingerprint'), text, finish };
}
