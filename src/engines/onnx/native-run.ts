// Runs of onnxruntime that the end of the thread waits for.
import { flags } from './protocol.ts';

/** Run `work` while the flags say so; refused once the engine stops. See `flags`. */
export async function nativeRun<T>(shared: Int32Array, work: () => Promise<T>): Promise<T> {
  Atomics.store(shared, flags.running, 1);
  try {
    if (Atomics.load(shared, flags.stopping) === 1) throw new Error('the engine stops');
    return await work();
  } finally {
    Atomics.store(shared, flags.running, 0);
    Atomics.notify(shared, flags.running);
  }
}
