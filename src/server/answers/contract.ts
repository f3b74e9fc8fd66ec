// What `/lockstep/contract` tells: the contract without its tables, the model's shape, the limits.
import type { Contract } from '../../contract/schema.ts';
import type { EngineInfo } from '../../engines/engine.ts';

export interface Limits {
  /** Most tokens of one sequence, prompt and completion together. */
  tokens: number;
  /** Most generations at once. */
  sessions: number;
  /** Most bytes of a request body. */
  bodyBytes: number;
}

/** Bytes of one number in the caches, by the engine's precision. */
const ELEMENT_BYTES: Record<string, number> = { float64: 8, bfloat16: 2, float16: 2 };

export function summarize(
  name: string,
  contract: Contract,
  info: EngineInfo,
  limits: Limits,
  chat: boolean,
) {
  const { policy, segment, carry, retrieval, heads, pool, tokenizer, training, trained } = contract;
  return {
    name,
    chat,
    engine: { name: info.name, precision: info.precision },
    model: {
      layers: info.layers,
      kvHeads: info.kvHeads,
      queryHeads: info.queryHeads,
      headDim: info.headDim,
      vocabulary: info.vocabulary,
      // Quantized engines keep their caches in float32.
      elementBytes: ELEMENT_BYTES[info.precision] ?? 4,
    },
    digest: contract.digest,
    policy: { name: policy.name, params: policy.params, sha256: policy.sha256 },
    segment,
    carry,
    retrieval,
    heads,
    pool,
    tokenizer,
    training,
    trained,
    limits,
  };
}
export type Summary = ReturnType<typeof summarize>;
