// A tiny checkpoint with a contract, exported for onnx: small enough that serving is what is measured.
import path from 'node:path';
import { serveTiny, writeTinyModel } from '../../test/serve-tiny.ts';

/**
 * @param folder an empty one
 * @param seed of the weights
 * @param max tokens of a segment
 * @returns the checkpoint in it
 */
export async function makeTiny(folder: string, seed = 0, max = 32): Promise<string> {
  const model = path.join(folder, 'model');
  const out = path.join(folder, 'tiny');
  await writeTinyModel(model, { seed });
  await serveTiny(model, out, { max });
  return out;
}
