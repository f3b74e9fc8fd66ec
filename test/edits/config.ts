// config.json: what changes the model's numbers is refused, what says the same otherwise is not.
import { changed, type Document, type Edit, removed, rewritten, set } from './edit.ts';

const file = 'config.json';

function rope(parameters: object): Edit {
  return set(file, 'rope_parameters', parameters);
}

export const configEdits: readonly Edit[] = [
  set(file, 'architectures', ['LlamaForCausalLM']),
  set(file, 'architectures', undefined),
  // Plain transformers would run it with full attention.
  set(file, 'model_type', 'llama'),
  set(file, 'model_type', 'qwen2'),
  set(file, 'model_type', 'gpt2'),
  set(file, 'hidden_size', 64),
  set(file, 'intermediate_size', 96),
  set(file, 'num_hidden_layers', 3),
  rewritten(file, '`num_hidden_layers`: `4.0`', (text) =>
    text.replace(/("num_hidden_layers":\s*4)/, '$1.0'),
  ),
  set(file, 'num_attention_heads', 8),
  set(file, 'num_key_value_heads', 1),
  set(file, 'num_key_value_heads', undefined),
  set(file, 'num_key_value_heads', '2'),
  set(file, 'num_key_value_heads', 3),
  set(file, 'head_dim', 16),
  set(file, 'head_dim', undefined),
  set(file, 'vocab_size', 300),
  rope({ rope_type: 'default', rope_theta: 500000 }),
  changed(file, 'the same rotation as `rope_theta` and `rope_scaling`', (config: Document) => {
    config.rope_theta = config.rope_parameters.rope_theta;
    config.rope_scaling = null;
    config.rope_parameters = undefined;
  }),
  changed(file, '`rope_theta`: `1000000.0` and no `rope_parameters`', (config: Document) => {
    config.rope_theta = 1e6;
    config.rope_parameters = undefined;
  }),
  rope({ rope_type: 'linear', rope_theta: 10000, factor: 4 }),
  set(file, 'rope_scaling', { type: 'linear', factor: 2 }),
  rope({
    ...{ rope_type: 'llama3', rope_theta: 10000, factor: 8, low_freq_factor: 1 },
    ...{ high_freq_factor: 4, original_max_position_embeddings: 64 },
  }),
  rope({
    ...{ rope_type: 'yarn', rope_theta: 10000, factor: 4 },
    ...{ original_max_position_embeddings: 128, attention_factor: 1.2 },
  }),
  rope({ rope_type: 'yarn', rope_theta: 10000 }),
  rope({ rope_type: 'dynamic', rope_theta: 10000, factor: 2 }),
  rope({ rope_type: 'default', rope_theta: '10000' }),
  set(file, 'partial_rotary_factor', 0.5),
  set(file, 'max_position_embeddings', 4096),
  set(file, 'rms_norm_eps', 1e-6),
  set(file, 'rms_norm_eps', undefined),
  set(file, 'hidden_act', 'gelu'),
  set(file, 'hidden_act', 'swish'),
  set(file, 'attention_bias', true),
  set(file, 'attention_bias', 0),
  set(file, 'mlp_bias', true),
  set(file, 'tie_word_embeddings', false),
  set(file, 'tie_word_embeddings', undefined),
  set(file, 'tie_word_embeddings', 1),
  set(file, 'sliding_window', 16),
  set(file, 'layer_types', Array(4).fill('sliding_attention')),
  set(file, 'quantization_config', { bits: 4 }),
  set(file, 'logit_scale', 2),
  set(file, 'eos_token_id', 2),
  set(file, 'eos_token_id', [0, 1]),
  set(file, 'dtype', 'bfloat16'),
  rewritten(file, 'a byte order mark', (text) => `\ufeff${text}`),
  rewritten(file, '`rms_norm_eps`: `NaN`', (text) =>
    text.replace(/"rms_norm_eps":\s*[^,]+/, '"rms_norm_eps": NaN'),
  ),
  rewritten(file, 'bytes that are not UTF-8', (text) =>
    Buffer.from(text.replace('{', '{"name": "caf\u00e9",'), 'latin1'),
  ),
  rewritten(file, '`[]`', () => '[]'),
  removed(file),
];
