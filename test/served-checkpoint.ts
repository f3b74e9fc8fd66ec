// A tiny checkpoint that both embedded engines serve: a contract, and its export.
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { runJob } from '../src/bridge/index.ts';
import { attach } from '../src/checkpoint/index.ts';
import { parseConfig } from '../src/config/index.ts';
import { delimiters } from '../src/policies/index.ts';
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
  const { seed, max = 32, onnx = true } = other;
  const model = await tinyModel(path.join(folder, 'model'), seed === undefined ? {} : { seed });
  if (chatTemplate !== undefined) {
    await writeFile(path.join(model, 'chat_template.jinja'), chatTemplate);
  }
  const dir = path.join(folder, 'tiny');
  const config = parseConfig(
    {
      model,
      out: dir,
      policy: delimiters({ strings: ['.', '?', '!'] }),
      segment: { min: 8, max },
      carry: { size: 12, sinks: 4 },
      retrieval: { size: 8, layers: [1, 2] },
      heads: { long: [1] },
    },
    'the test config',
  );
  await attach({ config, modelDir: model, out: dir });
  const job = { dir, precisions: ['fp32'], force: true };
  if (onnx) await runJob({ module: 'lockstep.export.job', job });
  return dir;
}
