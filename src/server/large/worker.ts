// The worker thread for large requests: it has a tokenizer and a planner of its own for each model.
import { type MessagePort, parentPort } from 'node:worker_threads';
import { LockstepError } from '../../errors.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { toHttpError } from '../errors.ts';
import type { Failure, FromWorker, KitSetup, Results, ToWorker, Work } from './protocol.ts';
import { answerTool, type Kit, readBody, readJson } from './work.ts';

const port = parentPort as MessagePort;

/** Kits by their numbers: what they are made of, and what was made, once some work has needed it. */
const kits = new Map<number, { setup: KitSetup; kit?: Promise<Kit> }>();

async function load(setup: KitSetup): Promise<Kit> {
  const tokenizer = await loadTokenizer(setup.dir);
  if (tokenizer.sha256 === setup.tokenizer) return { tokenizer, source: setup.source };
  throw new LockstepError(
    'LS_CONTRACT_TOKENIZER',
    `expected the tokenizer.json that was read at the start (${setup.tokenizer}), got ${tokenizer.sha256}`,
    { fix: 'The checkpoint has changed: start the server again.' },
  );
}

function kitOf(number: number): Promise<Kit> {
  const found = kits.get(number);
  if (found === undefined) throw new Error(`no kit ${number}`);
  // Another try after a failure.
  found.kit ??= load(found.setup).catch((error) => {
    delete found.kit;
    throw error;
  });
  return found.kit;
}

async function run(work: Work): Promise<Results[Work['kind']]> {
  if (work.kind === 'body') {
    const body = readBody(work.schema, work.body, work.counts);
    return work.only === undefined ? body : { [work.only]: (body as { model?: string }).model };
  }
  const tools = await kitOf(work.kit);
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

port.on('message', async (asked: ToWorker) => {
  if ('setup' in asked) {
    if (asked.setup === null) kits.delete(asked.kit);
    else kits.set(asked.kit, { setup: asked.setup });
    return;
  }
  const { call, ...work } = asked;
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
