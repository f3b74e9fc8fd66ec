// Malformed requests, made from docs/openapi.json: no answer of 500, every error in the documented form
// with a documented code, nothing of another request in any answer. 300 in `npm test`, 10,000 in
// `npm run test:slow` (LOCKSTEP_REQUESTS=COUNT; LOCKSTEP_REQUESTS_SEED=N begins elsewhere).
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { BatchStore } from '../../src/server/index.ts';
import { type Documented, documentedErrors } from '../helpers/documented-errors.ts';
import { tell } from '../helpers/tell.ts';
import { type Any, type TestClient, until } from '../server-client.ts';
import { toyServers } from '../server-fixture.ts';
import { problems, readOpenApi, type Sample } from './openapi.ts';
import { malformedRequests, type RawRequest } from './requests.ts';
import { type RawAnswer, send } from './send.ts';

const count = Number(process.env['LOCKSTEP_REQUESTS'] ?? 300);
const seed = Number(process.env['LOCKSTEP_REQUESTS_SEED'] ?? 1);
const { serve } = toyServers();

/** Words that stand in the well-formed requests of others, and nowhere else. */
const SECRET = 'canary';

/** Well-formed requests that go on all the while, each with a word of its own: what they get must be theirs. */
async function others({ post }: TestClient, stop: () => boolean): Promise<number> {
  let asked = 0;
  const worker = async (who: number) => {
    for (let i = 0; !stop(); i++) {
      const word = `${SECRET}-${who}-${i}.`;
      const stream = i % 2 === 0;
      const answer = await post('/v1/completions', {
        prompt: word,
        max_tokens: 5,
        echo: true,
        stream,
      });
      const text = await answer.text();
      expect([answer.status, text.includes(word)]).toEqual([200, true]);
      expect(text.match(/canary-\d+-\d+\./g)).toEqual([word]);
      const read = (await (await post('/tokenize', { text: word })).json()) as Any;
      expect(read.tokens).toEqual([...Buffer.from(word)]);
      asked += 2;
      await sleep(20);
    }
  };
  await Promise.all([0, 1, 2].map(worker));
  return asked;
}

/** What is wrong with an answer; samples for its schema go to `samples`. */
function judge(answer: RawAnswer, documented: Documented, samples: Sample[]): string | null {
  const { status, headers, body } = answer;
  if (status === 0) return 'no HTTP';
  if (status >= 500) return `status ${status}: ${body.slice(0, 200)}`;
  if (body.includes(SECRET)) return `text of another request: ${body.slice(0, 200)}`;
  if (/\bat .+:\d+:\d+\)?$/m.test(body)) return `a stack trace: ${body.slice(0, 200)}`;
  // Node answers what is no HTTP itself, without a body.
  if (status < 400 || body === '') return null;
  if (!headers['content-type']?.startsWith('application/json')) {
    return `no JSON with status ${status}: ${body.slice(0, 100)}`;
  }
  const value = JSON.parse(body) as { error?: { code?: string } };
  samples.push({ schema: 'Error', value });
  const code = value.error?.code ?? '';
  return documented(code, status) ? null : `no page lists ${status} with code ${code}`;
}

test(`${count} malformed requests`, { timeout: 120_000 + 600 * count }, async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-malformed-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const batches = await BatchStore.open(folder);
  const client = await serve(
    {},
    { maxBodyBytes: 65_536, maxTokens: 256, maxSessions: 16, maxQueue: 200, batches },
  );
  const documented = documentedErrors();
  expect(documented('invalid_json', 400)).toBe(true);
  expect(documented('invalid_json', 404)).toBe(false);
  const requests = malformedRequests(readOpenApi(), seed, count);
  const wrong: { request: string; how: string[]; answer: string }[] = [];
  const samples: Sample[] = [];
  const statuses: Record<string, number> = {};
  let ended = false;
  const watching = others(client, () => ended);
  watching.catch(() => {});
  const queue = [...requests];
  const worker = async () => {
    for (let request = queue.pop(); request !== undefined; request = queue.pop()) {
      const answers = await send(client.port, request.bytes, request.whole);
      for (const answer of answers) {
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
        const problem = judge(answer, documented, samples);
        if (problem !== null) wrong.push(told(request, problem));
      }
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker)).finally(() => {
    ended = true;
  });
  expect(await watching).toBeGreaterThan(10);
  tell({ search: 'malformed', count, seed, statuses });
  expect(wrong.slice(0, 10)).toEqual([]);
  expect([...new Set(await problems(samples))].slice(0, 5)).toEqual([]);
  // They are not all refused for the same reason, and the server is as it was.
  expect(Object.keys(statuses)).toEqual(
    expect.arrayContaining(['200', '400', '404', '405', '415']),
  );
  await until(() => client.engine.sessions === 0);
  expect((await fetch(`${client.url}/health/ready`)).status).toBe(200);
});

function told({ bytes, how }: RawRequest, answer: string) {
  return { request: bytes.subarray(0, 600).toString('latin1'), how, answer };
}
