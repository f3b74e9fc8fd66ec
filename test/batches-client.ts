// How tests make, follow and read batches, through OpenAI's client.
import { toFile } from 'openai';
import { expect } from 'vitest';
import { type Any, type TestClient, until } from './server-client.ts';

/** One line for `/v1/completions`; its answer is always the same. */
export const line = (id: string, body: object = {}, more: object = {}) => ({
  custom_id: id,
  method: 'POST',
  url: '/v1/completions',
  body: { prompt: `${id}: hello.`, max_tokens: 4, temperature: 0, ...body },
  ...more,
});

/** JSON lines; a text stands as it is. */
export const jsonl = (lines: readonly unknown[]): string =>
  lines.map((one) => `${typeof one === 'string' ? one : JSON.stringify(one)}\n`).join('');

type Client = Pick<TestClient, 'client'>;

export async function upload({ client }: Client, text: string): Promise<string> {
  const file = await toFile(Buffer.from(text), 'lines.jsonl');
  return (await client.files.create({ file, purpose: 'batch' })).id;
}

export async function create(served: Client, lines: readonly unknown[], more: object = {}) {
  return served.client.batches.create({
    input_file_id: await upload(served, jsonl(lines)),
    endpoint: '/v1/completions',
    completion_window: '24h',
    ...more,
  });
}

const ENDS = ['completed', 'failed', 'expired', 'cancelled'];

/** The batch, once it has ended. */
export async function ended({ client }: Client, id: string, seconds = 30): Promise<Any> {
  let batch: Any;
  await until(async () => {
    batch = await client.batches.retrieve(id);
    return ENDS.includes(batch.status);
  }, seconds);
  return batch;
}

/** The lines of a file of answers. */
export async function answers({ client }: Client, file: string): Promise<Any[]> {
  const text = await (await client.files.content(file)).text();
  expect(text.endsWith('\n')).toBe(true);
  return text
    .trimEnd()
    .split('\n')
    .map((one) => JSON.parse(one));
}
