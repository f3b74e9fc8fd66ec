// The clients of the load: each does one thing to a server and says what came of it.
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Documented } from '../../test/helpers/documented-errors.ts';
import { answersIn } from '../../test/malformed/parse.ts';
import type { RawRequest } from '../../test/malformed/requests.ts';
import { send } from '../../test/malformed/send.ts';
import { type Any, eventsOf } from '../../test/server-client.ts';

/**
 * `right`: as the reference has it. `wrong`: another answer. `other`: text of another client's request.
 * `error`: a documented error. `unlisted`: an error that no page lists, or one of 500. `broken`: the
 * connection broke in the middle of an answer. `refused`: no answer began. `left`: the client left on purpose.
 */
export type Came =
  | 'right'
  | 'wrong'
  | 'other'
  | 'error'
  | 'unlisted'
  | 'broken'
  | 'refused'
  | 'left';

/** No answer began. */
export class Refused extends Error {}

export interface Target {
  url: string;
  headers: Record<string, string>;
  /** The model to ask, where the server has several. */
  model?: string;
  /** Whether the docs list an error. */
  documented: Documented;
  /** The text that a request gets. */
  expected(prompt: string, most: number): string;
}

export interface Outcome {
  came: Came;
  /** A documented error's code, or what was wrong. */
  detail?: string;
}

/** In every prompt, with a number that no other request has. */
const mark = /client-\d+\./g;

export interface Question {
  /** Begins with `client-N.` */
  prompt: string;
  most: number;
}

export async function whole(target: Target, { prompt, most }: Question): Promise<Outcome> {
  const body = { prompt, max_tokens: most, temperature: 0, echo: true };
  const response = await post(target, '/v1/completions', body);
  if (response.status !== 200) return failed(target, response);
  const answer = (await response.json()) as Any;
  return compared(answer.choices[0].text, prompt + target.expected(prompt, most), prompt);
}

export async function streamed(target: Target, { prompt, most }: Question): Promise<Outcome> {
  const body = { prompt, max_tokens: most, temperature: 0, stream: true };
  const response = await post(target, '/v1/completions', body);
  if (response.status !== 200) return failed(target, response);
  const { events, done } = await eventsOf(response);
  return judged(target, { prompt, most }, events, done);
}

/** Leaves in the middle of a stream, or before it began. */
export async function vanishing(
  target: Target,
  { prompt }: Question,
  after: number,
): Promise<Outcome> {
  const leave = new AbortController();
  setTimeout(() => leave.abort(), after);
  const body = { prompt, max_tokens: 400, temperature: 0, stream: true };
  try {
    const response = await post(target, '/v1/completions', body, leave.signal);
    if (response.status !== 200) return await failed(target, response);
    await response.text();
  } catch {
    // It left.
  }
  return { came: 'left' };
}

/** Reads a stream with a pause behind each packet. */
export async function slow(target: Target, question: Question): Promise<Outcome> {
  const { prompt, most } = question;
  const body = bodyOf(target, { prompt, max_tokens: most, temperature: 0, stream: true });
  const { hostname, port } = new URL(target.url);
  const socket = net.connect(Number(port), hostname);
  const head = [
    'POST /v1/completions HTTP/1.1',
    'host: localhost',
    'connection: close',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    ...Object.entries(target.headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  const parts: Buffer[] = [];
  try {
    for await (const part of socket) {
      parts.push(part as Buffer);
      await sleep(20);
    }
  } catch {
    // What came tells how far it got.
  }
  const [answer] = answersIn(Buffer.concat(parts));
  if (answer === undefined || answer.status === 0) return { came: 'refused' };
  const headers = { 'content-type': answer.headers['content-type'] ?? '' };
  const response = new Response(answer.body, { status: answer.status, headers });
  if (answer.status !== 200) return failed(target, response);
  const { events, done } = await eventsOf(response);
  return judged(target, question, events, done);
}

/** A text of megabytes to be tokenized: as many tokens as it has, or a refusal by its size. */
export async function large(target: Target, bytes: number): Promise<Outcome> {
  const text = 'x'.repeat(bytes);
  const response = await post(target, '/tokenize', { text });
  if (response.status !== 200) return failed(target, response);
  const { count } = (await response.json()) as Any;
  return count === bytes
    ? { came: 'right' }
    : { came: 'wrong', detail: `${count} of ${bytes} tokens` };
}

/** A request that is wrong in some way. */
export async function malformed(target: Target, request: RawRequest): Promise<Outcome> {
  const { bytes, whole: ends } = request;
  const lines = Object.entries(target.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  // As the well-formed ones: a request without a key is refused before all else.
  const end = bytes.indexOf('\r\n') + 2;
  const opened = Buffer.concat([
    bytes.subarray(0, end),
    Buffer.from(lines.join('')),
    bytes.subarray(end),
  ]);
  const answers = await send(Number(new URL(target.url).port), opened, ends);
  for (const answer of answers) {
    if (answer.body.match(mark)) return { came: 'other', detail: request.how.join() };
    if (answer.status < 400 || answer.body === '' || saysHealth(answer)) continue;
    const headers = { 'content-type': answer.headers['content-type'] ?? '' };
    const outcome = await failed(
      target,
      new Response(answer.body, { status: answer.status, headers }),
    );
    if (outcome.came === 'unlisted') return outcome;
  }
  return answers.length === 0 ? { came: 'left' } : { came: 'error', detail: 'malformed' };
}

/** `/health` and `/health/ready` say in a form of their own that an engine is away. */
function saysHealth({ status, body }: { status: number; body: string }): boolean {
  return status === 503 && body.startsWith('{"status":"');
}

/** A request as JSON. */
function bodyOf({ model }: Pick<Target, 'model'>, request: object): string {
  return JSON.stringify({ ...request, ...(model === undefined ? {} : { model }) });
}

export async function post(
  target: Pick<Target, 'url' | 'headers' | 'model'>,
  path: string,
  body: object,
  signal?: AbortSignal,
): Promise<Response> {
  return await fetch(`${target.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...target.headers },
    body: bodyOf(target, body),
    ...(signal === undefined ? {} : { signal }),
  }).catch((cause: unknown) => {
    throw new Refused(String(cause), { cause });
  });
}

async function failed({ documented }: Target, response: Response): Promise<Outcome> {
  const text = await response.text();
  let code: string;
  try {
    code = (JSON.parse(text) as Any).error.code;
  } catch {
    return { came: 'unlisted', detail: `${response.status}: ${text.slice(0, 200)}` };
  }
  if (response.status === 500 || !documented(code, response.status)) {
    return { came: 'unlisted', detail: `${response.status} ${code}` };
  }
  return { came: 'error', detail: code };
}

function judged(target: Target, { prompt, most }: Question, events: Any[], done: boolean): Outcome {
  const error = events.at(-1)?.error;
  const text = events.map((event) => event.choices?.[0]?.text ?? '').join('');
  const expected = target.expected(prompt, most);
  if (error !== undefined || !done) {
    if (!expected.startsWith(text)) return compared(text, expected, prompt);
    if (error === undefined) return { came: 'broken' };
    const listed = target.documented(error.code);
    return { came: listed ? 'error' : 'unlisted', detail: error.code };
  }
  return compared(text, expected, prompt);
}

function compared(text: string, expected: string, prompt: string): Outcome {
  const own = prompt.match(mark)?.[0];
  const others = (text.match(mark) ?? []).filter((one) => one !== own);
  if (others.length > 0) return { came: 'other', detail: others.join() };
  if (text === expected) return { came: 'right' };
  return { came: 'wrong', detail: JSON.stringify({ expected, got: text }).slice(0, 400) };
}
