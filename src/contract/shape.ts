// What of config.json changes the model's numbers, in one form (SEMANTICS.md 5).
// python/lockstep/contract/shape.py computes the same; defaults are those of transformers 5.
import type { LockstepError } from '../errors.ts';
import { show } from '../json-text.ts';
import type { ModelShape } from './schema-model.ts';
import { type Config, type Fields, unsupported } from './shape-fields.ts';
import { ropeOf } from './shape-rope.ts';

export type Family = ModelShape['family'];

interface Defaults {
  /** null: as many as there are query heads. */
  kvHeads: number | null;
  /** null: the hidden size split among the query heads. */
  headDim: number | null;
  /** Tokens that config.json promises. */
  length: number;
}

const defaults: Readonly<Record<Family, Defaults>> = {
  llama: { kvHeads: null, headDim: null, length: 2048 },
  qwen2: { kvHeads: 32, headDim: null, length: 32768 },
  qwen3: { kvHeads: 32, headDim: 128, length: 32768 },
  mistral: { kvHeads: 8, headDim: null, length: 131072 },
};

/** transformers' names of activations, each for one function. */
const activations: Readonly<Record<string, string>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_new',
  gelu_pytorch_tanh: 'gelu_pytorch_tanh',
  relu: 'relu',
  relu2: 'relu2',
};

/** Switches that some runtimes follow and others pass over: they must be off. */
const switches: readonly [field: string, off: (value: unknown) => boolean, families?: Family[]][] =
  [
    ['bias', isOff],
    ['qkv_bias', isOff],
    ['qk_norm', isOff],
    ['ada_rms_norm_t_cond', isOff],
    ['llama_4_scaling', isOff],
    ['dual_chunk_attention_config', isOff],
    ['is_causal', (value) => value === true],
    ['logit_scale', (value) => value === 1],
    ['partial_rotary_factor', (value) => value === 1],
    ['attention_bias', isOff, ['mistral']],
    ['mlp_bias', isOff, ['qwen2', 'qwen3', 'mistral']],
  ];

/**
 * The canonical `model` of a config.json.
 *
 * @throws LS_MODEL_CONFIG for a field that is absent or of the wrong kind; LS_MODEL_UNSUPPORTED for
 *   what runtimes would not compute alike
 */
export function shapeOf(fields: Fields, family: Family): ModelShape {
  const { config } = fields;
  refuseSwitches(config, family);
  refuseSlidingWindow(fields, family);
  const hiddenSize = fields.integer('hidden_size');
  const queryHeads = fields.integer('num_attention_heads');
  const layers = fields.integer('num_hidden_layers');
  const kvHeads =
    config['num_key_value_heads'] === null && family !== 'mistral'
      ? queryHeads
      : fields.integer('num_key_value_heads', defaults[family].kvHeads ?? queryHeads);
  if (queryHeads % kvHeads !== 0) {
    throw fields.bad(
      `num_key_value_heads to divide the ${queryHeads} query heads`,
      String(kvHeads),
      'num_key_value_heads',
    );
  }
  return {
    family,
    hiddenSize,
    intermediateSize: fields.integer('intermediate_size'),
    layers,
    queryHeads,
    kvHeads,
    headDim: headDimOf(fields, family, hiddenSize, queryHeads),
    vocabulary: fields.integer('vocab_size'),
    rope: ropeOf(fields, defaults[family].length),
    normEpsilon: fields.number(
      'rms_norm_eps' in config ? config['rms_norm_eps'] : 1e-6,
      'rms_norm_eps',
    ),
    activation: activationOf(fields),
    attentionBias: attentionBiasOf(fields, family),
    mlpBias: family === 'llama' && fields.boolean('mlp_bias', false),
    tied: fields.boolean('tie_word_embeddings', false),
  };
}

function headDimOf(fields: Fields, family: Family, hidden: number, heads: number): number {
  // transformers' Llama wants this whatever head_dim says.
  if (family === 'llama' && hidden % heads !== 0) {
    throw fields.bad(
      `hidden_size to be a multiple of the ${heads} query heads`,
      String(hidden),
      'hidden_size',
    );
  }
  const split = Math.floor(hidden / heads);
  const absent = fields.config['head_dim'] === null && (family === 'llama' || family === 'mistral');
  const size = absent ? split : fields.integer('head_dim', defaults[family].headDim ?? split);
  if (size > 0 && size % 2 === 0) return size;
  throw fields.bad('an even head_dim', String(size), 'head_dim');
}

function activationOf(fields: Fields): string {
  const given = fields.config['hidden_act'] === undefined ? 'silu' : fields.config['hidden_act'];
  const known = typeof given === 'string' && Object.hasOwn(activations, given);
  if (known) return activations[given] as string;
  throw unsupported(
    `expected hidden_act among ${Object.keys(activations).join(', ')}, got ${show(given)}`,
    'Use a checkpoint with one of these activations.',
    'hidden_act',
  );
}

function attentionBiasOf(fields: Fields, family: Family): ModelShape['attentionBias'] {
  if (family === 'qwen2') return 'qkv';
  if (family === 'mistral') return 'none';
  return fields.boolean('attention_bias', false) ? 'qkvo' : 'none';
}

function refuseSwitches(config: Config, family: Family): void {
  for (const [field, off, families] of switches) {
    const value = config[field];
    if (value === undefined || off(value)) continue;
    if (families !== undefined && !families.includes(family)) continue;
    throw unsupported(
      `expected a ${family} checkpoint without ${field}, got ${show(value)}`,
      'Runtimes do not agree about this field: use a checkpoint without it.',
      field,
    );
  }
}

function isOff(value: unknown): boolean {
  return value === false || value === null;
}

/** Refuse what lets a layer slide in transformers, or in a runtime that takes it more literally. */
function refuseSlidingWindow(fields: Fields, family: Family): void {
  const { config } = fields;
  const types = config['layer_types'];
  if (types !== undefined && types !== null && !isList(types)) {
    throw fields.bad('a list for layer_types', show(types), 'layer_types');
  }
  const refuse = (got: string, fix: string, field: string): LockstepError =>
    unsupported(`expected full attention in every layer, got ${got}`, fix, field);
  const other = 'This model does not fit: use one with full attention in every layer.';
  if (isList(types)) {
    if (types.some((type) => type !== 'full_attention')) {
      throw refuse('layer_types with other kinds', other, 'layer_types');
    }
    const layers = fields.integer('num_hidden_layers');
    if (types.length !== layers) {
      throw fields.bad(`${layers} layer_types`, String(types.length), 'layer_types');
    }
  }
  const window = config['sliding_window'];
  if (family === 'llama' || family === 'mistral') {
    if (window === null || (window === undefined && family === 'llama')) return;
    if (window !== undefined)
      throw refuse(`sliding_window ${show(window)}`, other, 'sliding_window');
    throw refuse(
      'no sliding_window, which means 4096 for Mistral',
      'If the model has full attention, write "sliding_window": null into config.json.',
      'sliding_window',
    );
  }
  // Qwen states a window and switches it on apart, for the layers from max_window_layers on.
  if (!fields.boolean('use_sliding_window', false) || window === null || isList(types)) return;
  const first = fields.integer('max_window_layers', 28, 0);
  if (first >= fields.integer('num_hidden_layers')) return;
  throw refuse(
    `use_sliding_window from layer ${first} on`,
    'This model does not fit: use one with full attention in every layer (use_sliding_window: false).',
    'use_sliding_window',
  );
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}
