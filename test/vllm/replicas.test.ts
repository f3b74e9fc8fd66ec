// Two real vLLMs behind one relay: who gets a prompt, and what happens when one of them is killed.
import { beforeAll, expect, test } from 'vitest';
import { type Any, eventsOf, until } from '../server-client.ts';
import { below, type Serving, servers, TEXT } from './serving.ts';

const vllm = servers();
let server: Serving;
/** Which replica took the common prefix. */
let home: number;

const COMMON = `Once. ${TEXT.repeat(4)}`;

beforeAll(async () => {
  server = await vllm.start(['--max-num-seqs', '8'], ['--replicas', '2']);
});

/** A metric of vLLM's, by replica. */
async function metric(name: string): Promise<number[]> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return [0, 1].map((replica) =>
    text
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) && line.includes(`replica="${replica}"`))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0),
  );
}

async function complete(prompt: string): Promise<string> {
  const ask = { prompt, max_tokens: 4, temperature: 0 };
  const response = await server.post('/v1/completions', ask);
  const answer = (await response.json()) as Any;
  expect(response.status, JSON.stringify(answer)).toBe(200);
  return answer.choices[0].text;
}

/** A prompt whose first segment sends it to this replica. */
async function promptFor(replica: number): Promise<string> {
  for (let i = 0; ; i++) {
    const prompt = `Number ${i} of all. ${TEXT}`;
    const before = (await metric('vllm:prompt_tokens_total'))[replica] as number;
    const sum = (await metric('vllm:prompt_tokens_total')).reduce((a, b) => a + b);
    await complete(prompt);
    await until(async () => {
      const now = await metric('vllm:prompt_tokens_total');
      return now.reduce((a, b) => a + b) > sum;
    }, 60);
    if (((await metric('vllm:prompt_tokens_total'))[replica] as number) > before) return prompt;
  }
}

test('prompts with a common prefix go where its segments are', async () => {
  const first = await metric('vllm:prompt_tokens_total');
  await complete(COMMON);
  let tokens = first;
  await until(async () => {
    tokens = await metric('vllm:prompt_tokens_total');
    return tokens.some((count, i) => count > (first[i] as number));
  }, 60);
  home = tokens[0] === first[0] ? 1 : 0;
  const other = 1 - home;
  for (let i = 0; i < 8; i++) await complete(`${COMMON}And ${i}.`);
  await until(
    async () => ((await metric('lockstep_vllm_requests_total'))[home] as number) >= 9,
    60,
  );
  expect((await metric('vllm:prompt_tokens_total'))[other]).toBe(first[other]);
  const hits = await metric('vllm:prefix_cache_hits_total');
  expect(hits[home]).toBeGreaterThan(0);
  expect(hits[other]).toBe(0);
  // Others find their way to the other one.
  await promptFor(other);
});

test('one is killed: its stream ends with an error, the other’s goes on, the next are served', async () => {
  const expected = await complete(`${COMMON}And 0.`);
  const elsewhere = await promptFor(1 - home);
  const { replicas } = await server.engine();
  const socket = replicas[home].url.replace('unix:', '');
  const victim = below(server.child.pid as number).find(
    ({ name }) => name.includes(`--uds ${socket} `) && !name.includes('guard.py'),
  );
  const begun = new Set<string>();
  const streams = [COMMON, elsewhere].map(async (prompt) => {
    const ask = { prompt, max_tokens: 500, ignore_eos: true, stream: true };
    const { body } = await server.post('/v1/completions', ask);
    async function* watched() {
      for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
        begun.add(prompt);
        yield chunk;
      }
    }
    return eventsOf(new Response(ReadableStream.from(watched())));
  });
  // Before its first token a stream would be taken over by the other replica.
  await until(() => begun.size === 2, 60);
  process.kill((victim as { pid: number }).pid, 'SIGKILL');
  for (let i = 0; i < 8; i++) expect(await complete(`${COMMON}And 0.`)).toBe(expected);
  const [mine, theirs] = await Promise.all(streams);
  expect(mine?.done).toBe(false);
  expect(mine?.events.at(-1).error.code).toMatch(/^LS_VLLM_/);
  expect(theirs?.done).toBe(true);
  expect(theirs?.events.at(-1).choices[0].finish_reason).toBe('length');
});

test('the killed one comes back under the digest and is used again', async () => {
  await until(async () => (await server.engine()).replicas.every((one: Any) => one.ready), 400);
  const before = await metric('vllm:prompt_tokens_total');
  expect(before[home]).toBe(0);
  await promptFor(home);
});
