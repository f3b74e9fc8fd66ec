// What must hold of a client's exchanges, whatever engine answered them.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { findPython, pythonEnvironment } from '../../src/bridge/index.ts';
import { type Any, eventsOf, type TestClient } from '../server-client.ts';
import { conversation, type Exchange, javascriptSteps } from './steps.ts';

const scripts = path.join(import.meta.dirname, '..', 'python');

export const clients = {
  JavaScript: javascriptSteps,
  async Python(url: string): Promise<Exchange[]> {
    const { executable } = await findPython();
    const run = promisify(execFile);
    const { stdout } = await run(executable, [path.join(scripts, 'client_steps.py'), url], {
      maxBuffer: 1 << 26,
    });
    return JSON.parse(stdout) as Exchange[];
  },
};
export type ClientName = keyof typeof clients;

/** vLLM brings the Python client; without vLLM nothing else needs it. */
export const hasPythonClient = await findPython({ modules: ['openai', 'httpx'] }).then(
  () => true,
  () => false,
);

/** The calls that had to come have come, and their arguments fit the schemas. */
export async function checkCalls(dir: string, exchanges: readonly Exchange[]): Promise<void> {
  const loops = exchanges.filter(({ flow }) => flow !== 'replay');
  const kinds = [...Object.keys(conversation.choices).map((one) => `loop ${one}`), 'responses'];
  const flows = kinds.flatMap((kind) => ['whole', 'streamed'].map((mode) => `${kind} ${mode}`));
  expect([...new Set(loops.map(({ flow }) => flow))]).toEqual(flows);
  for (const flow of flows) {
    const [call, answer, secondCall, secondAnswer] = loops.filter((one) => one.flow === flow);
    for (const one of [call, secondCall] as Exchange[]) {
      const { content, calls } = said(one.message);
      expect([content, calls.length], flow).toEqual([null, 1]);
      const named = one.body.tool_choice?.function?.name;
      if (named !== undefined) expect(calls[0]?.[0]).toBe(named);
    }
    for (const one of [answer, secondAnswer] as Exchange[]) {
      const { content, calls } = said(one.message);
      expect([typeof content, calls], flow).toEqual(['string', []]);
    }
    const { body } = secondAnswer as Exchange;
    const results = (body.messages ?? body.input).filter(
      ({ role, type }: Any) => role === 'tool' || type === 'function_call_output',
    );
    expect(results, flow).toHaveLength(2);
  }
  for (const { problems } of await reference(dir, loops)) expect(problems).toEqual([]);
}

/** The prompt's ids of every request are those that transformers makes of its messages. */
export async function checkPrompts(
  dir: string,
  server: TestClient,
  exchanges: readonly Exchange[],
): Promise<void> {
  const expected = await reference(dir, exchanges);
  for (const [i, { flow, path, body, promptTokens }] of exchanges.entries()) {
    const ids = expected[i]?.ids;
    expect(promptTokens, flow).toBe(ids?.length);
    // Responses have no traces.
    if (path === '/v1/responses') continue;
    expect(await promptIds(server, body), flow).toEqual(ids);
  }
}

/** A server that has never seen any of it gives the same answers to the conversations as they stand. */
export async function checkFresh(fresh: TestClient, exchanges: readonly Exchange[]): Promise<void> {
  const last = exchanges.filter(
    ({ flow }, i) => exchanges[i + 1]?.flow !== flow || flow === 'replay',
  );
  // The longest first: nothing of it can be cached from a turn before.
  for (const { flow, path, body, message, finish } of last.reverse()) {
    const { stream: _, stream_options: __, ...whole } = body;
    const response = await fresh.post(path, whole);
    const answer = (await response.json()) as Any;
    expect(response.status, JSON.stringify(answer)).toBe(200);
    const choice = answer.choices?.[0] ?? { message: answer.output, finish_reason: answer.status };
    expect([said(choice.message), choice.finish_reason], flow).toEqual([said(message), finish]);
  }
}

/** What a message or a response's items say, without ids; no text and an empty one are alike. */
export function said(message: Any): { content: string | null; calls: [string, string][] } {
  if (!Array.isArray(message)) {
    const calls = message.tool_calls ?? [];
    return { content: message.content || null, calls: calls.map((one: Any) => call(one.function)) };
  }
  const texts = message.filter(({ type }) => type === 'message');
  const parts = texts.flatMap(({ content }) => content.map(({ text }: Any) => text));
  const calls = message.filter(({ type }) => type === 'function_call').map(call);
  return { content: texts.length === 0 ? null : parts.join(''), calls };
}

function call({ name, arguments: given }: Any): [string, string] {
  return [name, given];
}

/** What was said in the replayed conversation. */
export function replayed(exchanges: readonly Exchange[]): unknown {
  return exchanges
    .filter(({ flow }) => flow === 'replay')
    .map(({ message, finish }) => [said(message), finish]);
}

/** Usage tells the client that its conversation continues: no turn runs again that was answered before the last one. */
export function checkCached(exchanges: readonly Exchange[]): void {
  const turns = exchanges.filter(({ flow }) => flow === 'replay');
  for (const [i, { promptTokens }] of turns.slice(0, -2).entries()) {
    expect(turns[i + 2]?.cachedTokens).toBeGreaterThan(promptTokens);
  }
}

/** The ids that the engine was given, from a trace of the same request. */
async function promptIds(server: TestClient, body: Any): Promise<number[]> {
  const { min_tokens: _, ...asked } = body;
  const response = await server.post('/v1/chat/completions', {
    ...asked,
    max_tokens: 1,
    stream: true,
    stream_options: { include_usage: true },
    lockstep: { trace: true },
  });
  const { events, done } = await eventsOf(response);
  expect(done, JSON.stringify(events.at(-1))).toBe(true);
  const ids = events.flatMap(({ lockstep }) => lockstep?.tokens.map(({ id }: Any) => id) ?? []);
  return ids.slice(0, events.at(-1).usage.prompt_tokens);
}

/** transformers' ids of each request, and what is wrong with the calls of its answer. */
export async function reference(
  dir: string,
  exchanges: readonly Pick<Exchange, 'body' | 'message'>[],
): Promise<{ ids: number[]; problems: string[] }[]> {
  const { executable } = await findPython();
  const work = promisify(execFile)(executable, [path.join(scripts, 'client_reference.py'), dir], {
    env: pythonEnvironment(),
    maxBuffer: 1 << 26,
  });
  work.child.stdin?.end(JSON.stringify(exchanges));
  return JSON.parse((await work).stdout);
}
