// The model_type of a segmented checkpoint (counterpart of python/lockstep/contract/model_type.py): config.json names one
// of our own, `lockstep_llama` for a Llama, so that a program that knows nothing of segments refuses the
// checkpoint instead of running it with full attention.

const prefix = 'lockstep_';

/** Model families that the operator runs, as `model_type` names them in a plain checkpoint. */
export const families: Readonly<Record<string, string>> = {
  llama: 'Llama',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
  mistral: 'Mistral',
};

/** `lockstep_llama` -> `llama`; anything else as it is. */
export function plainType(modelType: unknown): unknown {
  if (typeof modelType !== 'string' || !modelType.startsWith(prefix)) return modelType;
  const plain = modelType.slice(prefix.length);
  return Object.hasOwn(families, plain) ? plain : modelType;
}

/** `llama` -> `lockstep_llama`; a name of ours stays. */
export function segmentedType(modelType: unknown): string {
  return `${prefix}${String(plainType(modelType))}`;
}
