// A checkpoint small enough to make in a test: real config.json and tokenizer.json, and a weight file.
import { mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expectedTensors } from '../src/weights/table.ts';
import { noise, type Tensors, writeTensors } from './safetensors.ts';

/** A new folder under the system's temporary one; the test removes it. */
export function temporaryFolder(name: string): string {
  return realpathSync(mkdtempSync(path.join(tmpdir(), `lockstep-${name}-`)));
}

/** tokenizer.json of a byte-level BPE: three special tokens, 256 bytes, a few merges. */
export function tinyTokenizer(): object {
  const vocab: Record<string, number> = {};
  const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
  for (const token of special) vocab[token] = Object.keys(vocab).length;
  for (const letter of byteLetters()) vocab[letter] = Object.keys(vocab).length;
  const merges = ['t h', 'th e', 'Ġ the', 'Ġ a', 'i n', 'e r', 'Ċ Ċ', '. Ċ', '` `', '`` `'];
  for (const merge of merges) vocab[merge.replace(' ', '')] = Object.keys(vocab).length;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'ByteLevel',
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: merges.map((merge) => merge.split(' ')),
    },
  };
}

export const tinyVocabulary = 3 + 256 + 10;

/** config.json of a Llama of 4 layers and 3 KV heads. */
export const tinyConfig: Readonly<Record<string, unknown>> = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: tinyVocabulary,
  hidden_size: 36,
  intermediate_size: 48,
  num_hidden_layers: 4,
  num_attention_heads: 6,
  num_key_value_heads: 3,
  head_dim: 6,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_parameters: { rope_theta: 10000, rope_type: 'default' },
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: 2,
};

/** Write a checkpoint folder; `config` overrides fields of config.json. */
export function tinyCheckpoint(
  dir: string,
  config: Readonly<Record<string, unknown>> = {},
): string {
  mkdirSync(dir, { recursive: true });
  const write = (name: string, value: unknown): void =>
    writeFileSync(path.join(dir, name), JSON.stringify(value));
  write('config.json', { ...tinyConfig, ...config });
  write('tokenizer.json', tinyTokenizer());
  write('tokenizer_config.json', { bos_token: '<|im_start|>', eos_token: '<|im_end|>' });
  writeFileSync(path.join(dir, 'chat_template.jinja'), '{{ messages[0].content }}');
  writeTensors(path.join(dir, 'model.safetensors'), tinyWeights({ ...tinyConfig, ...config }));
  return dir;
}

/** Weights that fit a config.json; a Llama's where its family is not supported. */
export function tinyWeights(config: Readonly<Record<string, unknown>>, seed = 1): Tensors {
  const number = (field: string): number => Number(config[field] ?? tinyConfig[field]);
  const family = ['llama', 'mistral', 'qwen2', 'qwen3'].find(
    (name) => name === config['model_type'],
  );
  const bias = family === 'qwen2' ? 'qkv' : 'qkvo';
  const shapes = expectedTensors({
    family: (family ?? 'llama') as 'llama',
    layers: number('num_hidden_layers'),
    hiddenSize: number('hidden_size'),
    intermediateSize: number('intermediate_size'),
    vocabulary: number('vocab_size'),
    queryHeads: number('num_attention_heads'),
    kvHeads: number('num_key_value_heads'),
    headDim: number('head_dim'),
    attentionBias: family === 'qwen2' || config['attention_bias'] === true ? bias : 'none',
    mlpBias: config['mlp_bias'] === true,
    tied: config['tie_word_embeddings'] === true,
  });
  return new Map([...shapes].map(([name, shape], i) => [name, noise(shape, 1000 * seed + i)]));
}

/** GPT-2's printable stand-ins for the bytes 0 to 255, in byte order. */
function byteLetters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : next++);
  });
}
