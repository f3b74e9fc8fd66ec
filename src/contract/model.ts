// What a contract needs to know of a Hugging Face checkpoint, from its config.json; and what is refused.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.ts';

/** Model families that the operator runs, as `model_type` names them. */
const families: Readonly<Record<string, string>> = {
  llama: 'Llama',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
  mistral: 'Mistral',
};

/** RoPE scalings whose angles do not depend on the length (SEMANTICS.md 3). */
const fixedRope = new Set(['default', 'linear', 'llama3', 'yarn']);

export interface ModelInfo {
  readonly dir: string;
  /** Content of config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** `Llama`, `Qwen2`, `Qwen3`, `Mistral`. */
  readonly family: string;
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
 * @throws LS_MODEL_MISSING, LS_MODEL_CONFIG, LS_MODEL_UNSUPPORTED (family, dynamic RoPE, sliding window,
 *   quantized weights)
 */
export async function readModel(dir: string): Promise<ModelInfo> {
  const file = path.join(dir, 'config.json');
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError(
      'LS_MODEL_MISSING',
      `expected a checkpoint at ${dir}, got ${cause.code} for config.json`,
      {
        mend: 'Name the folder of a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors).',
        field: 'model',
        cause,
      },
    );
  });
  const config = parseConfigJson(text, file);
  const family = families[String(config['model_type'])];
  if (family === undefined) {
    throw unsupported(
      `expected model_type ${Object.keys(families).join(', ')}, got ${show(config['model_type'])}`,
      'Use a Llama, Qwen2, Qwen3 or Mistral checkpoint.',
      'model_type',
    );
  }
  refuseDynamicRope(config);
  refuseSlidingWindow(config);
  if (config['quantization_config'] != null) {
    throw unsupported(
      'expected unquantized weights, got a quantization_config',
      'Use the original checkpoint; `lockstep export` quantizes for serving.',
      'quantization_config',
    );
  }
  const queryHeads = integer(config, 'num_attention_heads', file);
  return {
    dir,
    config,
    family,
    layers: integer(config, 'num_hidden_layers', file),
    queryHeads,
    kvHeads:
      config['num_key_value_heads'] == null
        ? queryHeads
        : integer(config, 'num_key_value_heads', file),
    vocabulary: integer(config, 'vocab_size', file),
  };
}

/**
 * Names of a checkpoint's weight files.
 *
 * @throws LS_MODEL_WEIGHTS when there are none, or only pickled ones
 */
export async function weightFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir);
  const weights = names.filter((name) => name.endsWith('.safetensors'));
  if (weights.length > 0) return weights.sort();
  const pickled = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  throw new LockstepError(
    'LS_MODEL_WEIGHTS',
    `expected *.safetensors in ${dir}, got ${pickled ?? 'no weights'}`,
    {
      mend:
        pickled === undefined
          ? 'Finish the download of the checkpoint.'
          : 'Pickled weights can run code; save the model again with save_pretrained, which writes safetensors.',
    },
  );
}

function refuseDynamicRope(config: Record<string, unknown>): void {
  // transformers 5 writes rope_parameters, 4 wrote rope_scaling with `type` or `rope_type`.
  for (const field of ['rope_parameters', 'rope_scaling']) {
    const scaling = config[field] as Record<string, unknown> | null | undefined;
    if (scaling == null) continue;
    const type = scaling['rope_type'] ?? scaling['type'] ?? 'default';
    if (fixedRope.has(String(type))) continue;
    throw unsupported(
      `expected a RoPE scaling that does not depend on the length (${[...fixedRope].join(', ')}), got ${show(type)}`,
      'Segmented execution needs no length scaling: use the checkpoint from before its context was extended.',
      `${field}.rope_type`,
    );
  }
}

function refuseSlidingWindow(config: Record<string, unknown>): void {
  const window = config['sliding_window'];
  const layerTypes = config['layer_types'];
  const layered = Array.isArray(layerTypes) && layerTypes.some((type) => type !== 'full_attention');
  // Qwen states a window and switches it off; Mistral's is active wherever it is stated.
  const active = layered || (window != null && config['use_sliding_window'] !== false);
  if (!active) return;
  throw unsupported(
    `expected full attention in every layer, got ${layered ? 'layer_types with other kinds' : `sliding_window ${show(window)}`}`,
    'Use a checkpoint without a sliding window; the carry takes its place.',
    layered ? 'layer_types' : 'sliding_window',
  );
}

function parseConfigJson(text: string, file: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch (cause) {
    throw badConfig(file, 'JSON', (cause as Error).message);
  }
  throw badConfig(file, 'a JSON object', text.slice(0, 40));
}

function integer(config: Record<string, unknown>, field: string, file: string): number {
  const value = config[field];
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw badConfig(file, `a positive integer for ${field}`, show(value), field);
}

function badConfig(file: string, expected: string, got: string, field?: string): LockstepError {
  return new LockstepError('LS_MODEL_CONFIG', `expected ${expected} in ${file}, got ${got}`, {
    mend: 'Copy config.json again from the original checkpoint.',
    ...(field === undefined ? {} : { field }),
  });
}

function unsupported(message: string, mend: string, field: string): LockstepError {
  return new LockstepError('LS_MODEL_UNSUPPORTED', message, { mend, field });
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
