// The policy's thread: evaluates policy.js in a realm of its own and answers calls, one at a time.
import vm from 'node:vm';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { Abi } from './abi.ts';
import * as protocol from './host-protocol.ts';

type Cells = { [index: number]: number };

const data = workerData as protocol.HostData;
const { port } = data;
const control = new Int32Array(data.control);

const realm = vm.createContext(Object.create(null), {
  name: 'policy',
  codeGeneration: { strings: false, wasm: false },
});

/** A view made inside the realm: nothing of this thread's realm is handed to the policy. */
function viewInside(buffer: SharedArrayBuffer): Cells {
  Object.setPrototypeOf(buffer, null);
  return (vm.runInContext('(buffer) => new Int32Array(buffer)', realm) as (b: object) => Cells)(
    buffer,
  );
}

function start(): { abi: Abi; cells: Cells } | string {
  const cells = viewInside(data.cells);
  const progress = viewInside(data.progress);
  try {
    const script = new vm.Script(data.policySource, { filename: 'policy.js' });
    script.runInContext(realm, { timeout: data.milliseconds });
  } catch (error) {
    const { code, name, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      return failure('LS_POLICY_LIMIT', 'does not end when it is loaded');
    }
    return failure('LS_POLICY_LOAD', `threw ${name}: ${message} when it was loaded`);
  }
  const abi = vm.runInContext("typeof lockstep === 'object' ? lockstep : undefined", realm) as
    | Abi
    | undefined;
  if (abi === undefined) return failure('LS_POLICY_LOAD', 'offers no planner');
  abi.watch(progress);
  const loaded = abi.load(data.tables, data.limits);
  return loaded === '' ? { abi, cells } : loaded;
}

function failure(code: string, message: string): string {
  return JSON.stringify({ error: { code, message, index: -1, token: -1 } });
}

function answer(abi: Abi, cells: Cells): void {
  const argument = control[protocol.ARGUMENT] as number;
  switch (control[protocol.OPERATION]) {
    case protocol.EXCHANGE: {
      const result = abi.exchange(cells, argument);
      control[protocol.ARGUMENT] = typeof result === 'number' ? result : protocol.FAILED;
      if (typeof result === 'string') port.postMessage(result);
      return;
    }
    case protocol.OPEN:
      port.postMessage(abi.open());
      return;
    case protocol.SNAPSHOT:
      port.postMessage(abi.snapshot(argument));
      return;
    case protocol.RESTORE:
      port.postMessage(abi.restore((receiveMessageOnPort(port) as { message: string }).message));
      return;
    case protocol.FREE:
      abi.free(argument);
      return;
    case protocol.DESCRIBE:
      port.postMessage(abi.describe());
      return;
  }
}

function handOver(): void {
  Atomics.store(control, protocol.TURN, protocol.CALLER);
  Atomics.notify(control, protocol.TURN);
}

const started = start();
if (typeof started === 'string') {
  port.postMessage(started);
  handOver();
} else {
  port.postMessage('');
  handOver();
  for (;;) {
    protocol.awaitTurn(control, protocol.CALLER);
    answer(started.abi, started.cells);
    handOver();
  }
}
