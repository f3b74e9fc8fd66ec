// A checkpoint of bytes and an engine of toy numbers: for faults that a real one will not show on demand.
import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ContractFiles, makeContract } from '../src/checkpoint/index.ts';
import { parseConfig } from '../src/config/index.ts';
import type {
  Engine,
  EngineSession,
  Retrieved,
  SessionMemory,
  StepOptions,
  StepResult,
} from '../src/engines/engine.ts';
import { LockstepError } from '../src/errors.ts';
import { delimiters } from '../src/policies/index.ts';
import { loadTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { writeTensors } from './safetensors.ts';
import { tinyWeights } from './tiny-checkpoint.ts';

export const LAYERS = 4;
export const KV_HEADS = 2;
export const SPECIALS = ['<|end|>', '<|system|>', '<|user|>', '<|assistant|>'];
const CHAT = `{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}`;

/** GPT-2's printable stand-ins for bytes. */
function byteLetters(): string[] {
  const printable = new Set<number>();
  for (const [from, to] of [
    [33, 126],
    [161, 172],
    [174, 255],
  ] as const) {
    for (let byte = from; byte <= to; byte++) printable.add(byte);
  }
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable.has(byte) ? byte : next++),
  );
}

export interface Toy {
  dir: string;
  files: ContractFiles;
  tokenizer: Tokenizer;
}

/**
 * A checkpoint folder without weights, whose tokens are bytes, cut after sentences.
 *
 * @param chat its chat template; null: none
 * @param more special tokens beyond SPECIALS, from id 260 on
 */
export async function makeToy(
  chat: string | null = CHAT,
  more: readonly string[] = [],
): Promise<Toy> {
  const specials = [...SPECIALS, ...more];
  const dir = await mkdtemp(path.join(os.tmpdir(), 'lockstep-toy-'));
  const vocab = Object.fromEntries(byteLetters().map((letter, id) => [letter, id]));
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: true,
  };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, i) => ({
      id: 256 + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
  const write = (name: string, value: unknown) =>
    writeFile(path.join(dir, name), typeof value === 'string' ? value : JSON.stringify(value));
  const model = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: 256 + specials.length,
    eos_token_id: 259,
    hidden_size: 64,
    intermediate_size: 64,
    num_hidden_layers: LAYERS,
    num_attention_heads: 4,
    num_key_value_heads: KV_HEADS,
    head_dim: 16,
  };
  await Promise.all([
    write('tokenizer.json', tokenizer),
    write('tokenizer_config.json', { eos_token: SPECIALS[0] }),
    write('generation_config.json', { eos_token_id: 256 }),
    ...(chat === null ? [] : [write('chat_template.jinja', chat)]),
    write('config.json', model),
  ]);
  writeTensors(path.join(dir, 'model.safetensors'), tinyWeights(model));
  const config = parseConfig(
    {
      model: dir,
      out: 'unused',
      policy: delimiters({ strings: ['.', '?', '!'] }),
      segment: { min: 16, max: 64 },
      carry: { size: 24, sinks: 4 },
      retrieval: { size: 8, layers: [1, 2] },
      heads: { long: [1] },
    },
    'the toy config',
  );
  const files = await makeContract({ config, modelDir: dir });
  return { dir, files, tokenizer: await loadTokenizer(dir) };
}

export interface ToyFaults {
  /** A step that reaches this position fails. */
  failAt?: number;
  /** A step that reaches this position gives NaN. */
  nanAt?: number;
  /** With this code; LS_ENGINE_STEP unless given. */
  failCode?: `LS_${string}`;
  /** A step takes this long. */
  delayMs?: number;
  /** The token at this position ends the text. */
  endAt?: number;
  /** The id that ends it; 256, `<|end|>`, unless given. */
  endId?: number;
  maxSessions?: number;
}

/** Deterministic and quick: the next letter is a function of the last token and its position. */
export class ToyEngine implements Engine {
  readonly info = {
    name: 'toy',
    precision: 'fp32',
    vocabulary: 256 + SPECIALS.length,
    layers: LAYERS,
    kvHeads: KV_HEADS,
    queryHeads: 4,
    headDim: 16,
  };
  readonly contract;
  faults: ToyFaults;
  readonly open_ = new Set<ToySession>();
  steps = 0;
  closed = false;

  constructor(toy: Toy, faults: ToyFaults = {}) {
    this.contract = toy.files.contract;
    this.faults = faults;
  }

  get sessions(): number {
    return this.open_.size;
  }

  async open(): Promise<EngineSession> {
    if (this.open_.size >= (this.faults.maxSessions ?? 1000)) {
      throw new LockstepError('LS_ENGINE_SESSIONS', 'expected a free session, got none', {
        fix: 'Try again later.',
      });
    }
    const session = new ToySession(this);
    this.open_.add(session);
    return session;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

class ToySession implements EngineSession {
  readonly id = Math.random().toString(36).slice(2);
  readonly engine: ToyEngine;
  position = 0;
  start = 0;

  constructor(engine: ToyEngine) {
    this.engine = engine;
  }

  async step(tokens: ArrayLike<number>, { rows, close }: StepOptions): Promise<StepResult> {
    const { faults, info } = this.engine;
    if (!this.engine.open_.has(this)) throw new Error('stepped after close');
    this.engine.steps += 1;
    if (faults.delayMs !== undefined) await sleep(faults.delayMs);
    this.position += tokens.length;
    if (faults.failAt !== undefined && this.position >= faults.failAt) {
      throw new LockstepError(
        faults.failCode ?? 'LS_ENGINE_STEP',
        'expected finite logits, got NaN in layer 2',
        {
          fix: 'Export the model again.',
        },
      );
    }
    const count = rows === 'all' ? tokens.length : rows === 'last' ? 1 : 0;
    const logits = new Float32Array(count * info.vocabulary).fill(-4);
    for (let row = 0; row < count; row++) {
      const back = count - 1 - row;
      const position = this.position - back;
      const own = logits.subarray(row * info.vocabulary, (row + 1) * info.vocabulary);
      const last = tokens[tokens.length - 1 - back] as number;
      const letter = (last * 7 + position * 3) % 27;
      const next = letter === 26 ? 32 : 97 + letter;
      own[position % 11 === 0 ? 46 : next] = 6;
      own[97 + ((letter + 5) % 26)] = 4;
      // Nothing but a fault ends a text: drawn at temperature 1, an end would come by chance.
      own.fill(-40, 256);
      if (faults.endAt !== undefined && position >= faults.endAt) {
        own[faults.endId ?? 256] = 30;
      }
    }
    if (faults.nanAt !== undefined && this.position >= faults.nanAt) logits.fill(Number.NaN);
    let boundary: StepResult['boundary'] = null;
    if (close) {
      this.start = this.position;
      boundary = { at: this.position, retrieved: this.#retrieve() };
    }
    return { logits, rows: count, boundary };
  }

  #retrieve(): Retrieved[] {
    const { carry, retrieval, heads } = this.engine.contract;
    const pool = this.position - carry.sinks;
    return retrieval.layers.map((layer) => ({
      layer,
      positions: (heads.long[layer] as number[]).map((head) => {
        const from = (layer * 13 + head * 5 + this.position) % Math.max(1, pool - retrieval.size);
        const count = Math.min(retrieval.size, pool);
        return Int32Array.from({ length: count }, (_, i) => from + i + (i > 3 ? 1 : 0)).filter(
          (row) => row < pool,
        );
      }),
    }));
  }

  async replaceRetrieved(): Promise<void> {}

  async fork(): Promise<EngineSession> {
    const fork = (await this.engine.open()) as ToySession;
    fork.position = this.position;
    fork.start = this.start;
    return fork;
  }

  async memory(): Promise<SessionMemory> {
    const { carry, retrieval } = this.engine.contract;
    const row = 2 * 16 * 4;
    const s = this.start;
    const parts = {
      sinks: Math.min(s, carry.sinks) * LAYERS * KV_HEADS * row,
      carry: (s - Math.min(s, Math.max(carry.sinks, s - carry.size))) * LAYERS * row,
      pool: Math.max(0, s - carry.sinks) * 2 * row,
      retrieved: Math.min(retrieval.size, Math.max(0, s - carry.sinks)) * 2 * row,
      open: (this.position - s) * LAYERS * KV_HEADS * row,
    };
    const total = parts.sinks + parts.carry + parts.pool + parts.retrieved + parts.open;
    return { ...parts, total, fullAttention: this.position * LAYERS * KV_HEADS * row };
  }

  async close(): Promise<void> {
    this.engine.open_.delete(this);
  }
}
