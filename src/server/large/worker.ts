// The worker thread for large requests: it has a tokenizer and a planner of its own.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { LockstepError } from '../../errors.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { toHttpError } from '../errors.ts';
import type { Failure, FromWorker, Results, ToWorker, Work, WorkSetup } from './protocol.ts';
import { answerTool, type Kit, readBody, readJson } from './work.ts';

const setup = workerData as WorkSetup;
const port = parentPort as MessagePort;

async function load(): Promise<Kit> {
  const tokenizer = await loadTokenizer(setup.dir);
  if (tokenizer.sha256 === setup.tokenizer) return { tokenizer, source: setup.source };
  throw new LockstepError(
    'LS_CONTRACT_TOKENIZER',
    `expected the tokenizer.json that was read at the start (${setup.tokenizer}), got ${tokenizer.sha256}`,
    { mend: 'The checkpoint has changed: start the server again.' },
  );
}
let kit: Promise<Kit> | undefined;

async function run(work: Work): Promise<Results[Work['kind']]> {
  if (work.kind === 'body') return readBody(work.schema, work.body, work.facts);
  // Only some work needs them; another try after a failure.
  kit ??= load().catch((error) => {
    kit = undefined;
    throw error;
  });
  const tools = await kit;
  if (work.kind === 'encode') {
    const { bos, most } = work;
    return tools.tokenizer.encode(work.text, { bos, ...(most === null ? {} : { most }) });
  }
  const answer = await answerTool(work.tool, readJson(work.body), tools, work.facts);
  return new TextEncoder().encode(JSON.stringify(answer));
}

function failureOf(error: unknown): Failure {
  const { status, message, type, param, code, retryAfter } = toHttpError(error);
  const stack = error instanceof Error ? error.stack : undefined;
  return { status, message, type, param, code, retryAfter, stack };
}

port.on('message', async ({ call, ...work }: ToWorker) => {
  let message: FromWorker;
  const moved: ArrayBuffer[] = [];
  try {
    const result = await run(work);
    if (result instanceof Int32Array || result instanceof Uint8Array) {
      moved.push(result.buffer as ArrayBuffer);
    }
    message = { call, result };
  } catch (error) {
    message = { call, failure: failureOf(error) };
  }
  port.postMessage(message, moved);
});
