// A tiny checkpoint that both embedded engines serve: a contract, and its export.
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { serveTiny } from './serve-tiny.ts';
import { tinyModel } from './tiny-model.ts';

/**
 * Make `tiny` in this folder; its path. It has a chat template where one is given.
 *
 * @param other weights and longest segment of another model; without `onnx` only torch serves it
 */
export async function servedCheckpoint(
  folder: string,
  chatTemplate?: string,
  other: { seed?: number; max?: number; onnx?: boolean } = {},
): Promise<string> {
  const { seed, max, onnx } = other;
  const model = await tinyModel(path.join(folder, 'model'), seed === undefined ? {} : { seed });
  if (chatTemplate !== undefined) {
    await writeFile(path.join(model, 'chat_template.jinja'), chatTemplate);
  }
  const dir = path.join(folder, 'tiny');
  await serveTiny(model, dir, { max, onnx });
  return dir;
}
