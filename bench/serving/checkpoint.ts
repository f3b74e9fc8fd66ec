// A tiny checkpoint with a contract, exported for onnx: small enough that serving is what is measured.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { findPython, pythonEnvironment, runJob } from '../../src/bridge/index.ts';
import { attach } from '../../src/checkpoint/index.ts';
import { parseConfig } from '../../src/config/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { delimiters } from '../../src/policies/index.ts';

/**
 * @param folder an empty one
 * @param seed of the weights
 * @param max tokens of a segment
 * @returns the checkpoint in it
 */
export async function makeTiny(folder: string, seed = 0, max = 32): Promise<string> {
  const model = path.join(folder, 'model');
  const out = path.join(folder, 'tiny');
  const { executable } = await findPython();
  const program =
    'import runpy, sys; runpy.run_path(sys.argv[1])["write"](sys.argv[2], seed=int(sys.argv[3]))';
  const script = path.join(packageRoot, 'test', 'python', 'make_tiny.py');
  execFileSync(executable, ['-c', program, script, model, String(seed)], {
    env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const config = parseConfig(
    {
      model,
      out,
      policy: delimiters({ strings: ['.', '?', '!'] }),
      segment: { min: 8, max },
      carry: { size: 12, sinks: 4 },
      retrieval: { size: 8, layers: [1, 2] },
      heads: { long: [1] },
    },
    'the load config',
  );
  await attach({ config, modelDir: model, out });
  await runJob({
    module: 'lockstep.export.job',
    job: { dir: out, precisions: ['fp32'], force: true },
  });
  return out;
}
