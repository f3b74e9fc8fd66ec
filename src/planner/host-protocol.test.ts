import { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { awaitTurn, CALLER, CONTROL_CELLS, POLICY, TURN } from './host-protocol.ts';

let other: Worker | undefined;
afterEach(() => other?.terminate());

/** The other side: notifies `late` times without a turn of its own, then, if it does, hands over. */
async function otherSide(control: Int32Array, late: number, handsOver: boolean): Promise<void> {
  const source = `
    const { workerData: { control, late, handsOver, TURN, CALLER }, parentPort } = require('node:worker_threads');
    parentPort.postMessage('ready');
    const pause = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < late; i++) {
      while (Atomics.notify(control, TURN) === 0) Atomics.wait(pause, 0, 0, 1);
    }
    Atomics.wait(pause, 0, 0, 20);
    if (handsOver) {
      control[1] = 7;
      Atomics.store(control, TURN, CALLER);
      Atomics.notify(control, TURN);
    }`;
  const workerData = { control, late, handsOver, TURN, CALLER };
  other = new Worker(source, { eval: true, workerData });
  await new Promise((resolve) => other?.once('message', resolve));
}

const shared = (): Int32Array => new Int32Array(new SharedArrayBuffer(4 * CONTROL_CELLS));

test('a late notify is no turn: the answer is there when it returns', async () => {
  const control = shared();
  control[TURN] = POLICY;
  await otherSide(control, 5, true);
  expect(awaitTurn(control, POLICY, 10_000)).toBe(true);
  expect([control[TURN], control[1]]).toEqual([CALLER, 7]);
});

test('says that the time is over where nothing but late notifies came', async () => {
  const control = shared();
  control[TURN] = POLICY;
  await otherSide(control, 3, false);
  expect(awaitTurn(control, POLICY, 100)).toBe(false);
});
