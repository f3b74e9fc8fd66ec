// A tiny random Llama whose chat template knows tools, under a contract; every engine serves it.
import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import { findPython, pythonEnvironment, runJob } from '../../src/bridge/index.ts';
import { attach } from '../../src/checkpoint/index.ts';
import { parseConfig } from '../../src/config/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { delimiters } from '../../src/policies/index.ts';

/**
 * A stock model with the tokenizer of make_tiny.py. Its heads are as large as vLLM takes them.
 *
 * @param template where its chat template stands; conversation.json's unless given
 */
export async function makeModel(
  dir: string,
  template = path.join(import.meta.dirname, 'chat_template.jinja'),
): Promise<string> {
  const { executable } = await findPython();
  const make =
    'import sys, pathlib, checkpoints; checkpoints.write_model(pathlib.Path(sys.argv[1]))';
  const extra = ['test/vllm', 'test/python'].map((one) => path.join(packageRoot, one));
  execFileSync(executable, ['-c', make, dir], {
    env: { ...pythonEnvironment(process.env, extra), OMP_NUM_THREADS: '1' },
    stdio: 'ignore',
  });
  copyFileSync(template, path.join(dir, 'chat_template.jinja'));
  return dir;
}

/** Attach a model as `out` and export it for the onnx engine. */
export async function makeCheckpoint(model: string, out: string): Promise<string> {
  const config = parseConfig(
    {
      model,
      out,
      policy: delimiters({ strings: ['.', '?', '!', '>'] }),
      segment: { min: 8, max: 64 },
      carry: { size: 16, sinks: 4 },
      retrieval: { size: 16, layers: [1, 2] },
      heads: { long: [1] },
    },
    'the test config',
  );
  await attach({ config, modelDir: model, out });
  const job = { dir: out, precisions: ['fp32'], force: true };
  await runJob({ module: 'lockstep.export.job', job });
  return out;
}
