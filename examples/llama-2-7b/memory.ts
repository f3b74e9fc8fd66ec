// Memory of this recipe, from its config and the model's shape: node --import tsx examples/llama-2-7b/memory.ts
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { ConfigInput } from '../../src/config/schema.ts';
import config from './lockstep.config.ts';

export interface Shape {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  tie_word_embeddings: boolean;
}

/** What of a config memory depends on, as plain numbers. */
export interface Setting {
  segment: number;
  carry: number;
  sinks: number;
  retrieval: number;
  layers: readonly number[];
  /** Long KV heads of every layer. */
  long: readonly (readonly number[])[];
  truncation: number;
  rank: number;
}

/** One card. */
const CARD = 80e9;
const FLOAT = 4;
const HALF = 2;
/** Rows of logits alive at once (the trainer's chunk), three copies of them. */
const LOGITS = 3 * 256;

export function settingOf(given: ConfigInput, shape: Shape): Setting {
  const long = given.heads?.long ?? [];
  const every = Array.from({ length: shape.num_hidden_layers }, (_, layer) =>
    Array.isArray(long[0]) ? ((long[layer] ?? []) as number[]) : (long as number[]),
  );
  return {
    segment: given.segment.max,
    carry: given.carry.size,
    sinks: given.carry.sinks ?? 4,
    retrieval: given.retrieval?.size ?? 0,
    layers: given.retrieval?.layers ?? [],
    long: every,
    truncation: given.training?.truncation ?? 1,
    rank: given.training?.lora?.rank ?? 0,
  };
}

/** Weights of a Llama of this shape. */
export function parameters(s: Shape): number {
  const query = s.num_attention_heads * s.head_dim;
  const kv = s.num_key_value_heads * s.head_dim;
  const attention = s.hidden_size * (2 * query + 2 * kv);
  const layer = attention + 3 * s.hidden_size * s.intermediate_size + 2 * s.hidden_size;
  const embeddings = s.vocab_size * s.hidden_size * (s.tie_word_embeddings ? 1 : 2);
  return s.num_hidden_layers * layer + embeddings + s.hidden_size;
}

/** Weights of adapters on the four attention projections. */
export function adapters(s: Shape, rank: number): number {
  const query = s.num_attention_heads * s.head_dim;
  const kv = s.num_key_value_heads * s.head_dim;
  return s.num_hidden_layers * rank * 2 * (s.hidden_size + query + s.hidden_size + kv);
}

/**
 * Rows held after `tokens` tokens, a row being a key and a value of one head: what crosses a boundary
 * by part, and the open segment at its fullest (its prefix again, rotated; its keys also raw).
 */
export function rows(s: Shape, c: Setting, tokens: number): Record<string, number> {
  const kvHeads = s.num_hidden_layers * s.num_key_value_heads;
  const long = c.long.reduce((sum, list) => sum + list.length, 0);
  const pooled = c.layers.reduce((sum, layer) => sum + (c.long[layer]?.length ?? 0), 0);
  const pool = Math.max(0, tokens - c.sinks);
  const sinks = kvHeads * Math.min(c.sinks, tokens);
  const carry = (kvHeads - long) * Math.min(c.carry, pool);
  const retrieved = pooled * Math.min(c.retrieval, pool);
  const raw = (kvHeads - (c.carry > 0 ? 0 : kvHeads - long) - (long - pooled)) * c.segment;
  const open = sinks + carry + retrieved + kvHeads * c.segment + raw / 2;
  return { sinks, carry, pool: pooled * pool, retrieved, open, full: kvHeads * tokens };
}

/** Bytes of `count` rows: a key and a value each. */
export function rowBytes(s: Shape, count: number, size: number): number {
  return 2 * s.head_dim * size * count;
}

const gb = (value: number): string => `${(value / 1e9).toFixed(2)} GB`;

function table(head: string[], body: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  const rule = `| --- |${' ---: |'.repeat(head.length - 1)}`;
  return [line(head), rule, ...body.map(line)].join('\n');
}

/** Training: what stands on the card at the worst moment of a step. */
export function training(s: Shape, c: Setting, sequence: number): [string, number][] {
  const graphs = c.truncation + 1;
  const heads = s.num_attention_heads + 2 * s.num_key_value_heads;
  // The trainer's own estimate of what one layer keeps for its backward pass, a token.
  const inside = 8 * s.hidden_size + 4 * s.intermediate_size + 4 * heads * s.head_dim;
  const between = rows(s, c, sequence - c.segment);
  const kept = ['sinks', 'carry', 'pool', 'retrieved'].reduce((n, k) => n + (between[k] ?? 0), 0);
  return [
    ['frozen weights, float32', FLOAT * parameters(s)],
    [`adapters of rank ${c.rank}: weights, gradients, two moments`, 16 * adapters(s, c.rank)],
    [
      `${graphs} segments alive (K + 1): one row of hidden states a layer and token`,
      graphs * s.num_hidden_layers * c.segment * s.hidden_size * FLOAT,
    ],
    [
      `${graphs} segments alive: keys and values that cross a boundary, at most`,
      graphs * rowBytes(s, s.num_hidden_layers * s.num_key_value_heads * c.segment, FLOAT),
    ],
    ['one layer of a segment, computed again (estimate)', inside * c.segment * FLOAT],
    ['logits, a chunk at a time', LOGITS * s.vocab_size * FLOAT],
    [`state kept before the last segment of ${sequence} tokens`, rowBytes(s, kept, FLOAT)],
  ];
}

/** The README's two tables. */
export function report(s: Shape, c: Setting, sequence: number): string {
  const parts = training(s, c, sequence);
  const total = parts.reduce((sum, [, size]) => sum + size, 0);
  const all = 16 * parameters(s);
  const train = table(
    ['training', 'memory'],
    [
      ...parts.map(([name, size]) => [name, gb(size)]),
      ['**sum**', `**${gb(total)}**`],
      ['of one card', gb(CARD)],
      ['instead, every weight trained: weights, gradients, moments', gb(all)],
      ['the same over four cards (`--nproc 4 --shard`), each', gb(all / 4)],
    ],
  );
  const serve = table(
    ['serving, 16 bit', 'weights', 'segmented keeps', 'of which the pool', 'full attention keeps'],
    [32_768, 65_536, 131_072, 1_048_576].map((tokens) => {
      const held = rows(s, c, tokens);
      const bytes = (name: string): number => rowBytes(s, held[name] ?? 0, HALF);
      const own = ['sinks', 'carry', 'pool', 'retrieved', 'open'].reduce((n, k) => n + bytes(k), 0);
      return [
        `${tokens.toLocaleString('en-US')} tokens`,
        gb(HALF * parameters(s)),
        gb(own),
        gb(bytes('pool')),
        gb(bytes('full')),
      ];
    }),
  );
  return `${train}\n\n${serve}`;
}

export function ownReport(): string {
  const shape = JSON.parse(readFileSync(new URL('./shape.json', import.meta.url), 'utf8')) as Shape;
  return report(shape, settingOf(config, shape), config.training?.sequence ?? 2048);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(`${ownReport()}\n`);
}
