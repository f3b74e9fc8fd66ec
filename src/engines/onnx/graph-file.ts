// What an ONNX file would make onnxruntime read beside itself, found before it is loaded: only the
// parts of its protobuf that can name a file are looked at (onnx.proto3).
import { readFile } from 'node:fs/promises';
import { LockstepError } from '../../errors.ts';
import { isPlainName } from '../../inside.ts';

/** Fields that hold messages, by kind of message: which field holds which kind. */
const nested: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  model: { 7: 'graph', 14: 'metadata', 20: 'training', 25: 'function' },
  training: { 1: 'graph', 2: 'graph' },
  function: { 7: 'node', 11: 'attribute' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 4: 'op', 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: { 13: 'external' },
};

/** Subgraphs within subgraphs; our own graphs have none. */
const deepest = 64;

export interface NamedFiles {
  /** `location` of tensors whose data lie in another file. */
  locations: string[];
  /** Why the file is refused whatever it names; null where nothing is wrong. */
  problem: string | null;
}

/** Every file that a serialized ModelProto names. */
export function namedFiles(bytes: Uint8Array): NamedFiles {
  const found: NamedFiles = { locations: [], problem: null };
  try {
    walk(new Reader(bytes, 0, bytes.length), 'model', 0, found);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    found.problem = `no ONNX file: ${error.message}`;
  }
  return found;
}

/**
 * Refuse a graph that would read another file than those that were exported with it.
 *
 * @param file path of the graph
 * @param allowed plain names that it may read, in its own folder
 * @throws LS_ENGINE_GRAPH
 */
export async function checkGraphFile(file: string, allowed: ReadonlySet<string>): Promise<void> {
  const { locations, problem } = namedFiles(await readFile(file));
  const outside = locations.find((name) => !isPlainName(name) || !allowed.has(name));
  if (problem === null && outside === undefined) return;
  const expected = [...allowed].join(', ') || 'no other file';
  const got = problem ?? `one that reads ${JSON.stringify(outside?.slice(0, 200))}`;
  throw new LockstepError(
    'LS_ENGINE_GRAPH',
    `expected a graph at ${file} that reads ${expected}, got ${got}`,
    { fix: 'Do not use this folder: export the graph yourself with lockstep export DIR.' },
  );
}

function walk(reader: Reader, kind: string, depth: number, found: NamedFiles): void {
  if (depth > deepest) throw new Malformed('its graphs are nested too deeply');
  for (let field = reader.field(); field !== null; field = reader.field()) {
    const inner = nested[kind]?.[field.number];
    if (inner === undefined || field.from === undefined) continue;
    const part = new Reader(reader.bytes, field.from, field.to);
    if (inner === 'op') {
      // A compiled graph of a vendor's: its attribute may be a path, and its data code.
      if (part.text() === 'EPContext') found.problem = 'a compiled part (EPContext)';
    } else if (inner === 'external' || inner === 'metadata') {
      const [key, value] = entry(part);
      if (inner === 'external' && key === 'location') found.locations.push(value);
      if (inner === 'metadata' && key === 'ort_config')
        found.problem = 'settings of its own (ort_config)';
    } else walk(part, inner, depth + 1, found);
  }
}

/** A StringStringEntryProto. */
function entry(reader: Reader): [key: string, value: string] {
  let key = '';
  let value = '';
  for (let field = reader.field(); field !== null; field = reader.field()) {
    if (field.from === undefined) continue;
    const text = new Reader(reader.bytes, field.from, field.to).text();
    if (field.number === 1) key = text;
    if (field.number === 2) value = text;
  }
  return [key, value];
}

class Malformed extends Error {}

interface Field {
  number: number;
  /** Where its bytes are, for those of a stated length. */
  from: number | undefined;
  to: number;
}

/** Reads the fields of one message. */
class Reader {
  readonly bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, from: number, to: number) {
    this.bytes = bytes;
    this.#at = from;
    this.#end = to;
  }

  field(): Field | null {
    if (this.#at === this.#end) return null;
    const tag = this.#varint();
    const number = Math.floor(tag / 8);
    const type = tag % 8;
    if (type === 0) this.#varint();
    else if (type === 1) this.#skip(8);
    else if (type === 5) this.#skip(4);
    else if (type === 2) {
      const length = this.#varint();
      const from = this.#at;
      this.#skip(length);
      return { number, from, to: this.#at };
    } else throw new Malformed(`a field of wire type ${type}`);
    return { number, from: undefined, to: this.#at };
  }

  text(): string {
    return Buffer.from(
      this.bytes.buffer,
      this.bytes.byteOffset + this.#at,
      this.#end - this.#at,
    ).toString('utf8');
  }

  #varint(): number {
    let value = 0;
    for (let i = 0; i < 10; i++) {
      if (this.#at >= this.#end) throw new Malformed('it ends inside a number');
      const byte = this.bytes[this.#at++] as number;
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    throw new Malformed('a number that is too long');
  }

  #skip(length: number): void {
    if (length > this.#end - this.#at) throw new Malformed('it ends inside a field');
    this.#at += length;
  }
}
