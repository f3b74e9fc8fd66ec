// The worker thread: the graph, and the state of every session.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { LockstepError } from '../../errors.ts';
import { SequenceState, StateSnapshots } from '../../state/index.ts';
import { BlocksGraph } from './blocks.ts';
import { StepGraph } from './graph.ts';
import { ProductsGraph } from './products.ts';
import type {
  Answers,
  Failure,
  FromWorker,
  Request,
  Stepped,
  ToWorker,
  WorkerSetup,
} from './protocol.ts';
import { type Job, Scheduler } from './scheduler.ts';

const setup = workerData as WorkerSetup;
const port = parentPort as MessagePort;
const sessions = new Map<number, SequenceState>();
const snapshots = new StateSnapshots();
const scheduler = new Scheduler();

function reply(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function failureOf(error: unknown): Failure {
  if (error instanceof LockstepError) return { ...error.toJSON() };
  const message = error instanceof Error ? error.message : String(error);
  return {
    code: 'LS_ENGINE_RUN',
    message: `expected the step to run, got: ${message.slice(0, 400)}`,
    fix: 'Close the session; if it happens again, export the graph again.',
  };
}

function stateOf(session: number): SequenceState {
  const state = sessions.get(session);
  if (state !== undefined) return state;
  throw new LockstepError('LS_ENGINE_SESSION', 'expected an open session, got a closed one');
}

interface Graphs {
  step: StepGraph;
  /** What a boundary's retrieval is computed with. */
  retrieval: ProductsGraph | BlocksGraph;
}

/** A step, run in pieces of at most `pieceTokens`. */
class StepJob implements Job {
  readonly #graphs: Graphs;
  readonly #state: SequenceState;
  readonly #request: Request & { kind: 'step' };
  readonly #call: number;
  readonly #logits: Float32Array;
  readonly #rows: number;
  #at = 0;
  #boundary: Stepped['boundary'] = null;

  constructor(
    graphs: Graphs,
    state: SequenceState,
    request: Request & { kind: 'step' },
    call: number,
  ) {
    this.#graphs = graphs;
    this.#state = state;
    this.#request = request;
    this.#call = call;
    const { rows, tokens } = request;
    this.#rows = rows === 'none' ? 0 : rows === 'last' ? Math.min(1, tokens.length) : tokens.length;
    this.#logits = new Float32Array(this.#rows * setup.vocabulary);
  }

  async next(): Promise<boolean> {
    const { tokens, rows, close } = this.#request;
    const piece = tokens.subarray(this.#at, this.#at + setup.pieceTokens);
    const end = this.#at + piece.length;
    if (piece.length > 0) {
      const last = rows === 'last' && end === tokens.length ? [piece.length - 1] : [];
      const wanted = rows === 'all' ? Array.from(piece.keys()) : last;
      const logits = await this.#graphs.step.run(this.#state, piece, wanted);
      this.#logits.set(logits, rows === 'all' ? this.#at * setup.vocabulary : 0);
    }
    this.#at = end;
    if (end < tokens.length) return false;
    if (close) {
      const found = await this.#graphs.retrieval.of(this.#state);
      const retrieved = this.#state.close(found);
      this.#boundary = { at: this.#state.position, retrieved };
    }
    return true;
  }

  settle(error?: unknown): void {
    if (error !== undefined) {
      reply({ call: this.#call, failure: failureOf(error) });
      return;
    }
    const answer = { logits: this.#logits, rows: this.#rows, boundary: this.#boundary };
    reply({ call: this.#call, answer }, [this.#logits.buffer as ArrayBuffer]);
  }
}

/** Work that waits for the steps before it and is done at once. */
function after(call: number, work: () => Answers[Request['kind']]): Job {
  let answer: Answers[Request['kind']] = null;
  return {
    next: async () => {
      answer = work();
      return true;
    },
    settle: (error) =>
      reply(error === undefined ? { call, answer } : { call, failure: failureOf(error) }),
  };
}

const closedMeanwhile = new LockstepError(
  'LS_ENGINE_SESSION',
  'expected an open session, got one that was closed during the call',
);

function handle(graphs: Graphs, request: ToWorker): void {
  const { call, session, kind } = request;
  if (kind === 'open') {
    sessions.set(session, new SequenceState(setup.layout, setup.rotation));
    reply({ call, answer: null });
  } else if (kind === 'close') {
    sessions.delete(session);
    scheduler.cancel(session, closedMeanwhile);
    reply({ call, answer: null });
  } else if (kind === 'stop') {
    // A piece that runs ends first; then nothing keeps the thread alive.
    for (const open of sessions.keys()) scheduler.cancel(open, closedMeanwhile);
    sessions.clear();
    port.close();
  } else if (kind === 'step') {
    scheduler.add(session, new StepJob(graphs, stateOf(session), request, call));
  } else if (kind === 'fork') {
    const fork = (): null => {
      sessions.set(session, stateOf(request.from).fork());
      return null;
    };
    scheduler.add(request.from, after(call, fork));
  } else if (kind === 'snapshot') {
    const snapshot = (): number => {
      snapshots.add(request.snapshot, stateOf(session));
      return snapshots.bytes;
    };
    scheduler.add(session, after(call, snapshot));
  } else if (kind === 'resume') {
    const state = snapshots.fork(request.snapshot);
    if (state === undefined) throw new Error(`expected a snapshot ${request.snapshot}`);
    sessions.set(session, state);
    reply({ call, answer: null });
  } else if (kind === 'drop') {
    snapshots.drop(request.snapshot);
    reply({ call, answer: snapshots.bytes });
  } else if (kind === 'replace') {
    const replace = (): null => {
      stateOf(session).replaceRetrieved(request.retrieved);
      return null;
    };
    scheduler.add(session, after(call, replace));
  } else {
    scheduler.add(
      session,
      after(call, () => stateOf(session).memory()),
    );
  }
}

try {
  const graphs = {
    step: await StepGraph.load(setup),
    retrieval: await (setup.layout.blocks === null ? ProductsGraph : BlocksGraph).load(setup),
  };
  port.on('message', (request: ToWorker) => {
    try {
      handle(graphs, request);
    } catch (error) {
      reply({ call: request.call, failure: failureOf(error) });
    }
  });
  reply({ call: 0, answer: null });
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  const failure: Failure = {
    code: 'LS_ENGINE_LOAD',
    message: `expected onnxruntime to load ${setup.graph}, got: ${message.slice(0, 400)}`,
    fix: 'Export the graph again: lockstep export DIR',
  };
  reply({ call: 0, failure });
}
