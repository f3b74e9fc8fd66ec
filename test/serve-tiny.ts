// How a tiny checkpoint is made that every engine serves. Without Vitest: bench/serving makes its own so, too.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { findPython, pythonEnvironment, runJob } from '../src/bridge/index.ts';
import { attach } from '../src/checkpoint/index.ts';
import { parseConfig } from '../src/config/index.ts';
import { delimiters } from '../src/policies/index.ts';

/** Options of `make_tiny.write`. */
export interface TinyOptions {
  seed?: number;
  layers?: number;
  kv_heads?: number;
  group?: number;
  head_dim?: number;
  hidden?: number;
  tied?: boolean;
}

/** Write the model of test/python/make_tiny.py to `to`. */
export async function writeTinyModel(to: string, options: TinyOptions): Promise<void> {
  const python = await findPython();
  const program =
    'import json, runpy, sys; runpy.run_path(sys.argv[1])["write"](sys.argv[2], **json.loads(sys.argv[3]))';
  const script = path.join(import.meta.dirname, 'python', 'make_tiny.py');
  const given = JSON.stringify(options);
  await promisify(execFile)(python.executable, ['-c', program, script, to, given], {
    env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' },
  });
}

/** Make `dir` of such a model: a contract, and its export, without which only torch serves it. */
export async function serveTiny(
  model: string,
  dir: string,
  { max = 32, onnx = true }: { max?: number | undefined; onnx?: boolean | undefined } = {},
): Promise<void> {
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
    'the config of a tiny checkpoint',
  );
  await attach({ config, modelDir: model, out: dir });
  const job = { dir, precisions: ['fp32'], force: true };
  if (onnx) await runJob({ module: 'lockstep.export.job', job });
}
