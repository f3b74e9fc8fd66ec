// The header of a safetensors file: names, types, shapes and places of its tensors, and nothing else of it.
import { type FileHandle, open, stat } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.ts';
import { systemProblem } from '../system-error.ts';

/** Where a tensor lies: bytes [begin, end) of its file. */
export interface Stored {
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** The format's own limit (safetensors, `MAX_HEADER_SIZE`), in bytes. */
const headerLimit = 100_000_000;

/** Bytes of one element, by the format's names of types. */
const elementBytes: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/**
 * Read a header as strictly as safetensors itself: the tensors tile the file, without a hole, an overlap
 * or a byte too many (counterpart of `header` in python/lockstep/weights/header.py).
 *
 * @param file name within `dir`
 * @throws LS_MODEL_WEIGHTS_FILES for what is no regular file, LS_MODEL_WEIGHTS_HEADER
 */
export async function readHeader(dir: string, file: string): Promise<Map<string, Stored>> {
  const whole = path.join(dir, file);
  const found = await stat(whole).catch(() => null);
  if (found === null) throw files(`expected ${file} in ${dir}, got no such file`);
  if (!found.isFile()) {
    throw files(`expected ${file} in ${dir} to be a regular file, got something else`);
  }
  const handle = await open(whole).catch((cause: NodeJS.ErrnoException) => {
    throw files(`expected to read ${file} in ${dir}, got ${systemProblem(cause)}`);
  });
  try {
    return await parse(handle, file, found.size);
  } finally {
    await handle.close();
  }
}

async function parse(handle: FileHandle, file: string, size: number): Promise<Map<string, Stored>> {
  const length = Buffer.alloc(8);
  const { bytesRead } = await handle.read(length, 0, 8, 0);
  if (bytesRead < 8) throw bad(file, `a length of 8 bytes, got ${size} bytes in all`);
  const bytes = length.readBigUInt64LE();
  if (bytes > headerLimit || bytes > size - 8) {
    throw bad(file, `a header of at most ${Math.min(headerLimit, size - 8)} bytes, got ${bytes}`);
  }
  const raw = Buffer.alloc(Number(bytes));
  const read = await handle.read(raw, 0, raw.length, 8);
  const entries = object(read.bytesRead === raw.length ? parseStrictJson(raw) : null);
  if (entries === null) throw bad(file, 'a JSON object of whole numbers, got something else');
  const data = 8 + raw.length;
  const tensors = new Map<string, Stored>();
  for (const [name, value] of Object.entries(entries)) {
    if (name === '__metadata__') checkMetadata(file, value);
    else tensors.set(name, entry(file, name, value, data));
  }
  checkTiling(file, tensors, data, size);
  return tensors;
}

function entry(file: string, name: string, value: unknown, data: number): Stored {
  const held = object(value);
  const dtype = held?.['dtype'];
  const shape = held?.['shape'];
  const offsets = held?.['data_offsets'];
  if (
    held === null ||
    Object.keys(held).length !== 3 ||
    typeof dtype !== 'string' ||
    !wholeNumbers(shape) ||
    !wholeNumbers(offsets) ||
    offsets.length !== 2
  ) {
    throw bad(file, `dtype, shape and data_offsets for ${name}, got something else`);
  }
  const element = Object.hasOwn(elementBytes, dtype) ? elementBytes[dtype] : undefined;
  if (element === undefined) throw bad(file, `a known type for ${name}, got ${dtype}`);
  const [begin, end] = offsets as [number, number];
  const wanted = shape.reduce((count, side) => count * BigInt(side), BigInt(element));
  if (BigInt(end) - BigInt(begin) !== wanted) {
    throw bad(
      file,
      `${wanted} bytes for ${name} (${dtype} ${list(shape)}), got [${begin}, ${end}]`,
    );
  }
  return { file, dtype, shape, begin: data + begin, end: data + end };
}

function checkMetadata(file: string, value: unknown): void {
  const held = object(value);
  if (held !== null && Object.values(held).every((text) => typeof text === 'string')) return;
  throw bad(file, 'texts in __metadata__, got something else');
}

/** Tensors in order of place: each begins where the one before it ends, the last ends with the file. */
function checkTiling(file: string, all: Map<string, Stored>, data: number, size: number): void {
  const order = [...all].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = data;
  for (const [name, { begin, end }] of order) {
    if (begin !== at) {
      throw bad(file, `${name} to begin at byte ${at - data} of the data, got ${begin - data}`);
    }
    at = end;
  }
  if (at !== size) throw bad(file, `${at} bytes in all, as its header says, got ${size}`);
}

/** JSON of UTF-8 whose numbers are whole and not negative; null for anything else. */
function parseStrictJson(raw: Buffer): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw);
    const value: unknown = JSON.parse(text);
    // JSON.parse makes 4.0 and 4 alike; Python does not.
    return /-|\d[.eE]/.test(text.replace(/"(?:[^"\\]|\\.)*"/g, '')) ? null : value;
  } catch {
    return null;
  }
}

function wholeNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n));
}

/** The value where it is a JSON object, else null. */
export function object(value: unknown): Record<string, unknown> | null {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}

/** A shape as both languages print it. */
export function list(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

const again = 'Copy the file again from the original checkpoint.';

function files(message: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_FILES', message, { fix: again });
}

function bad(file: string, expected: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_HEADER', `${file}: expected ${expected}`, {
    fix: again,
    field: file,
  });
}
