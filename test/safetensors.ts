// safetensors files for tests: written as the format says, or wrong on purpose.
import { readFileSync, writeFileSync } from 'node:fs';

export interface Tensor {
  dtype: string;
  shape: number[];
  data: Buffer;
}

export type Tensors = Map<string, Tensor>;

/** A tensor of float32 values that differ; the same `seed` gives the same bytes. */
export function noise(shape: number[], seed: number): Tensor {
  const values = new Float32Array(shape.reduce((count, side) => count * side, 1));
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 32 - 0.5) / 4;
  }
  return { dtype: 'F32', shape, data: Buffer.from(values.buffer) };
}

export function writeTensors(
  file: string,
  tensors: Tensors,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): void {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const [name, { dtype, shape, data }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.length] };
    at += data.length;
  }
  writeRaw(
    file,
    JSON.stringify(header),
    [...tensors.values()].map(({ data }) => data),
  );
}

/** Any text as the header. */
export function writeRaw(file: string, header: string, data: readonly Buffer[]): void {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([length, text, ...data]));
}

export interface Parts {
  header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  data: Buffer;
}

/** Header and data of a sound file. */
export function readParts(file: string): Parts {
  const all = readFileSync(file);
  const length = Number(all.readBigUInt64LE());
  const header = JSON.parse(all.subarray(8, 8 + length).toString()) as Parts['header'];
  return { header, data: all.subarray(8 + length) };
}

export function readTensors(file: string): Tensors {
  const { header, data } = readParts(file);
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    entries.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [name, { dtype, shape, data: data.subarray(begin, end) }],
    ),
  );
}
