// The models that docs/get-started.md names, by the fields of their published config.json.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readModel } from './model.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-fits-'));
});
afterAll(() => rm(folder, { recursive: true }));

const sizes = (hidden: number, layers: number, heads: number, kv: number, vocabulary: number) => ({
  hidden_size: hidden,
  intermediate_size: 4 * hidden,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kv,
  vocab_size: vocabulary,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
});

async function opened(config: object) {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  return readModel(folder);
}

const llama32 = {
  ...sizes(2048, 16, 32, 8, 128_256),
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  head_dim: 64,
  max_position_embeddings: 131_072,
  rope_theta: 500_000,
  rope_scaling: {
    factor: 32,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
};
const qwen3 = {
  ...sizes(1024, 28, 16, 8, 151_936),
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  head_dim: 128,
  attention_bias: false,
  max_position_embeddings: 40_960,
  max_window_layers: 28,
  rope_theta: 1_000_000,
  rope_scaling: null,
  sliding_window: null,
  use_sliding_window: false,
};
const qwen25 = {
  ...sizes(896, 24, 14, 2, 151_936),
  architectures: ['Qwen2ForCausalLM'],
  model_type: 'qwen2',
  max_position_embeddings: 32_768,
  max_window_layers: 21,
  rope_theta: 1_000_000,
  sliding_window: 32_768,
  use_sliding_window: false,
};
const mistral = {
  ...sizes(4096, 32, 32, 8, 32_768),
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  max_position_embeddings: 32_768,
  rope_theta: 1_000_000,
  tie_word_embeddings: false,
  sliding_window: null,
};

test.each([
  ['Llama-3.2-1B', llama32, 16, 8],
  ['Qwen3-0.6B', qwen3, 28, 8],
  ['Qwen2.5-0.5B', qwen25, 24, 2],
  ['Mistral-7B-v0.3', mistral, 32, 8],
])('%s fits', async (_, config, layers, kvHeads) => {
  expect(await opened(config)).toMatchObject({ layers, kvHeads });
});

test.each([
  ['Mistral-7B-v0.1', { ...mistral, sliding_window: 4096 }, /sliding_window 4096/],
  ['Qwen2.5 with an active window', { ...qwen25, use_sliding_window: true }, /sliding_window/],
  ['Gemma 2', { ...llama32, model_type: 'gemma2' }, /got "gemma2"/],
  ['a mixture of experts', { ...qwen3, model_type: 'qwen3_moe' }, /got "qwen3_moe"/],
  ['quantized weights', { ...mistral, quantization_config: { quant_method: 'awq' } }, /quant/],
  ['dynamic NTK', { ...llama32, rope_scaling: { type: 'dynamic', factor: 2 } }, /dynamic/],
])('%s does not', async (_, config, message) => {
  await expect(opened(config)).rejects.toThrow(message);
});
