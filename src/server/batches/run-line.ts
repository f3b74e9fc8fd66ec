// One line of a batch: the request that it holds, sent through the routes of the server, and what comes of it.
import type { Caller } from '../keys/caller.ts';
import type { Background } from '../limits/admission-queue.ts';
import type { Batch } from './batch.ts';
import { seconds } from './ids.ts';
import type { InProcessClient, InProcessResponse } from './in-process-client.ts';

/** What the routes know of a line. */
export interface LineOrigin {
  caller: Caller;
  background: Background;
  batch: string;
}

/** A line that failed for reasons that may pass is tried so often. */
const TRIES = 3;
/** Between two of them, in seconds. */
const BETWEEN = 2;

/** Refusals that say nothing about the line: it waits as long as they last. */
const TRANSIENT = new Set([
  'no_idle_place',
  'shutting_down',
  'not_ready',
  'too_many_tokens',
  'token_budget_spent',
  'too_many_requests',
  'LS_ENGINE_SESSIONS',
  'LS_VLLM_NOT_READY',
  'LS_VLLM_UNREACHABLE',
  'LS_TEMPLATE_START',
]);

/** What became of a line: answered, to run again for this reason, or nothing as the batch has ended. */
export type Outcome = 'completed' | 'failed' | { again: string };

/**
 * Run a line and write its answer down, or put it back.
 *
 * @throws what `Batch.write` throws
 */
export async function runLine(
  batch: Batch,
  number: number,
  caller: Caller,
  client: InProcessClient<LineOrigin>,
): Promise<Outcome> {
  const controller = batch.enter(number);
  let why = 'stopped';
  const preempt = (): void => {
    why = 'gave_way';
    controller.abort();
  };
  try {
    const { signal } = controller;
    const { customId, body } = await batch.read(number);
    const origin = { caller, background: { preempt }, batch: batch.id };
    let answer: InProcessResponse;
    try {
      answer = await client.post({ path: batch.endpoint, body, origin, signal });
    } catch (error) {
      if (!signal.aborted) throw error;
      batch.putBack(number);
      return { again: why };
    }
    const again = toRunAgain(batch, number, answer);
    if (again !== null) {
      batch.putBack(number);
      return { again };
    }
    const side = answer.status === 200 ? 'output' : 'error';
    await batch.write(number, side, customId, answerText(answer));
    return side === 'output' ? 'completed' : 'failed';
  } finally {
    batch.leave(number);
  }
}

/** Why a line is to run again, after the pause that the batch then makes; null: this is its answer. */
function toRunAgain(batch: Batch, number: number, answer: InProcessResponse): string | null {
  const { status, retryAfter, body } = answer;
  if (status !== 429 && status < 501) return null;
  const code = codeOf(body);
  const pause = retryAfter ?? BETWEEN;
  const until = seconds() + pause;
  if (code === 'shutting_down') return code;
  // What is refused until after the end of the batch is an answer.
  if (until >= batch.record.expires_at) return null;
  if (!TRANSIENT.has(code)) {
    const tries = (batch.tries.get(number) ?? 0) + 1;
    if (tries >= TRIES) return null;
    batch.tries.set(number, tries);
  }
  batch.paused = { code, until };
  return code;
}

function codeOf(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown } };
    return typeof error?.code === 'string' ? error.code : 'unknown';
  } catch {
    return 'unknown';
  }
}

/** Fields `response` and `error` of a line of an output file. The body stays as the route wrote it. */
function answerText({ status, requestId, body }: InProcessResponse): string {
  const head = `"status_code":${status},"request_id":${JSON.stringify(requestId)}`;
  return `"response":{${head},"body":${body}},"error":null`;
}
