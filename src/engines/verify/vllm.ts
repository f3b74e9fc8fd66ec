// vLLM for a verification: a job runs the engine over the text and writes what it computed.
import path from 'node:path';
import { runJob } from '../../bridge/index.ts';
import { LockstepError } from '../../errors.ts';
import type { WholeInput, WholeRun } from './index.ts';
import { decodedTokens } from './steps.ts';
import { bytes, retrievedOf } from './trainer.ts';

/**
 * Run vLLM (`lockstep.vllm.verify`): most of the text as a prompt, its end decoded token by token.
 *
 * @throws LockstepError LS_VLLM_MISSING, LS_VLLM_START, LS_VERIFY_TOKENS, what the plugin refuses
 */
export async function runVllm(input: WholeInput): Promise<WholeRun> {
  const { trainer, onProgress } = input;
  const { ids, best, folder } = trainer;
  if (ids.length < 4) {
    throw new LockstepError(
      'LS_VERIFY_TOKENS',
      `expected at least 4 tokens to compare with vLLM, got ${ids.length}`,
      { fix: 'Give a longer text.' },
    );
  }
  const result = await runJob({
    module: 'lockstep.vllm.verify',
    python: input.python,
    signal: input.signal,
    job: {
      dir: path.resolve(input.dir),
      ids: Array.from(ids),
      decoded: decodedTokens(ids.length),
      best,
      bestIds: path.join(folder, 'best-ids.i32'),
      retrieved: [...trainer.retrieved].map(([at, layers]) => ({
        at,
        layers: layers.map(({ layer, positions }) => ({
          layer,
          positions: positions.map((one) => Array.from(one)),
        })),
      })),
      out: folder,
    },
    onEvent: (event) => {
      if (event.event !== 'progress') return;
      onProgress(String(event['stage']), Number(event['done']), Number(event['total']));
    },
  });
  return {
    name: 'vllm',
    precision: 'float32',
    digest: String(result['digest']),
    plans: [result['boundaries'] as number[], result['scheduled'] as number[]],
    retrieved: retrievedOf(result['retrieved']),
    argmax: new Int32Array(await bytes(folder, 'vllm-argmax.i32', 4 * ids.length)),
    logp: new Float64Array(await bytes(folder, 'vllm-logp.f64', 8 * ids.length * (1 + best))),
  };
}
