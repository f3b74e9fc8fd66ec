// How edits of weights are written: tensors, headers, shards and an index changed on purpose.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  noise,
  readParts,
  readTensors,
  type Tensor,
  type Tensors,
  writeRaw,
  writeTensors,
} from '../safetensors.ts';
import type { Edit } from './edit.ts';

export interface WeightEdit extends Edit {
  /** Code at a model without a contract; null: accepted. */
  model: string | null;
  /** Code at a checkpoint with one, where it is another. */
  checkpoint?: string | null;
}

export const single = 'model.safetensors';
export const index = 'model.safetensors.index.json';
export const shards = [
  'model-00001-of-00002.safetensors',
  'model-00002-of-00002.safetensors',
] as const;
export const embedding = 'model.embed_tokens.weight';
export const head = 'lm_head.weight';
export const q0 = 'model.layers.0.self_attn.q_proj.weight';
export const norm = 'model.norm.weight';

export const weights = 'LS_MODEL_WEIGHTS';
export const files = 'LS_MODEL_WEIGHTS_FILES';
export const header = 'LS_MODEL_WEIGHTS_HEADER';
export const indexed = 'LS_MODEL_WEIGHTS_INDEX';
export const tensors = 'LS_MODEL_WEIGHTS_TENSORS';
export const tied = 'LS_MODEL_WEIGHTS_TIED';
export const identity = 'LS_WEIGHTS_IDENTITY';

/** Change the tensors of model.safetensors. */
export function changed(change: (all: Tensors) => void): (dir: string) => void {
  return (dir) => {
    const file = path.join(dir, single);
    const all = readTensors(file);
    change(all);
    writeTensors(file, all);
  };
}

/** Change the header's text, and no byte behind it. */
export function reheaded(change: (text: string, data: Buffer) => string): (dir: string) => void {
  return (dir) => {
    const { header, data } = readParts(path.join(dir, single));
    writeRaw(path.join(dir, single), change(JSON.stringify(header), data), [data]);
  };
}

export function withHeader(change: (all: Header) => void): (dir: string) => void {
  return reheaded((text) => {
    const all = JSON.parse(text) as Header;
    change(all);
    return JSON.stringify(all);
  });
}

export type Header = ReturnType<typeof readParts>['header'];

export const of = (all: Tensors, name: string): Tensor => all.get(name) as Tensor;

/** Tensors of the same shapes with other values. */
export function others(all: Tensors): Tensors {
  return new Map([...all].map(([name, { shape }], at) => [name, noise([...shape], 5000 + at)]));
}

/** Two shards and an index in place of the one file. */
export function split(dir: string, names: readonly [string, string] = shards): void {
  const all = [...readTensors(path.join(dir, single))];
  const half = Math.floor(all.length / 2);
  const parts = [all.slice(0, half), all.slice(half)] as const;
  const map: Record<string, string> = {};
  parts.forEach((part, i) => {
    const name = names[i] as string;
    for (const [tensor] of part) map[tensor] = name;
    if (!name.includes('/')) writeTensors(path.join(dir, name), new Map(part));
    else writeTensors(path.join(dir, path.basename(name)), new Map(part));
  });
  rmSync(path.join(dir, single));
  writeIndex(dir, map);
}

export function writeIndex(dir: string, map: Readonly<Record<string, unknown>>): void {
  writeFileSync(
    path.join(dir, index),
    JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }),
  );
}

export function reindexed(change: (map: Record<string, unknown>, dir: string) => void) {
  return (dir: string): void => {
    split(dir);
    const file = path.join(dir, index);
    const { weight_map: map } = JSON.parse(readFileSync(file, 'utf8')) as {
      weight_map: Record<string, unknown>;
    };
    change(map, dir);
    writeIndex(dir, map);
  };
}

export function configured(
  fields: Readonly<Record<string, unknown>>,
  change: (all: Tensors) => void = () => {},
) {
  return (dir: string): void => {
    const file = path.join(dir, 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...config, ...fields }));
    changed(change)(dir);
  };
}

export function flip(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[bytes.length + at] = (bytes[bytes.length + at] as number) ^ 1;
  writeFileSync(file, bytes);
}

export const put = (dir: string, name: string, text: string): void =>
  writeFileSync(path.join(dir, name), text);

/** `file` where it is not the one that the list is of. */
export type Row = Omit<WeightEdit, 'file'> & Partial<Pick<WeightEdit, 'file'>>;

/** The contract's own field refuses these edits of config.json first. */
export const model = 'LS_CONTRACT_ARCHITECTURE';
