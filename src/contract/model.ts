// What a contract needs to know of a Hugging Face checkpoint, from its config.json; and what is refused.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { checkNames } from '../checkpoint-names.ts';
import { LockstepError } from '../errors.ts';
import { jsonText, show, withLiterals } from '../json-text.ts';
import { systemProblem } from '../system-error.ts';
import { families, plainType } from './model-type.ts';
import type { ModelShape } from './schema-model.ts';
import { type Family, shapeOf } from './shape.ts';
import { type Config, Fields, unsupported } from './shape-fields.ts';

export interface ModelInfo {
  readonly dir: string;
  /** Content of config.json. */
  readonly config: Config;
  /** `Llama`, `Qwen2`, `Qwen3`, `Mistral`. */
  readonly family: string;
  /** What of it changes the model's numbers: `model` of a contract. */
  readonly shape: ModelShape;
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** Rows of the embedding: token ids that the model knows. */
  readonly vocabulary: number;
}

/** The `architectures` entry of a checkpoint with a contract: a vLLM without the plugin refuses it. */
export function segmentedArchitecture(family: string): string {
  return `Segmented${family}ForCausalLM`;
}

/**
 * Read and judge a checkpoint's config.json.
 *
 * @throws LS_CHECKPOINT_* (checkNames), LS_MODEL_MISSING, LS_MODEL_CONFIG, LS_MODEL_UNSUPPORTED (family, dynamic RoPE, sliding window,
 *   quantized weights)
 */
export async function readModel(dir: string): Promise<ModelInfo> {
  const file = path.join(dir, 'config.json');
  const data = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError(
      'LS_MODEL_MISSING',
      `expected the folder of a checkpoint at ${dir}, got ${systemProblem(cause)} for config.json`,
      {
        fix: 'Name the folder of a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors).',
        field: 'model',
        cause,
      },
    );
  });
  await checkNames(dir);
  const fields = parseConfigJson(data, file);
  const { config } = fields;
  const type = config['model_type'];
  const plain = plainType(type);
  const family = typeof plain === 'string' ? families[plain] : undefined;
  if (family === undefined) {
    throw unsupported(
      `expected model_type ${Object.keys(families).join(', ')}, got ${show(type)}`,
      'Use a Llama, Qwen2, Qwen3 or Mistral checkpoint.',
      'model_type',
    );
  }
  if (config['quantization_config'] != null) {
    throw unsupported(
      'expected unquantized weights, got a quantization_config',
      'Use the original checkpoint; `lockstep export` quantizes for serving.',
      'quantization_config',
    );
  }
  const shape = shapeOf(fields, plain as Family);
  const { layers, queryHeads, kvHeads, vocabulary } = shape;
  return { dir, config, family, shape, layers, queryHeads, kvHeads, vocabulary };
}

function parseConfigJson(data: Uint8Array, file: string): Fields {
  let value: unknown;
  let text = '';
  try {
    text = jsonText(data);
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fields({}, {}, file).bad('JSON', (cause as Error).message);
  }
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    return new Fields(value as Config, withLiterals(text) as Config, file);
  }
  throw new Fields({}, {}, file).bad('a JSON object', text.slice(0, 40));
}
