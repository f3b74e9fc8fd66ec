// A UTF-8 file as a stream of strings; a byte that is not UTF-8 is named by its offset.
import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { LockstepError } from '../errors.ts';
import { systemProblem } from '../system-error.ts';

/** A stretch of text and the number of bytes of the file read so far. */
export interface TextPiece {
  text: string;
  /** Bytes from the start of the file to the end of this text. */
  bytes: number;
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * Read a UTF-8 text file in pieces that never split a character. A byte order mark is dropped, as the
 * trainer drops it.
 *
 * @throws LS_TEXT_ENCODING with the offset of the first byte that is not UTF-8
 * @throws LS_TEXT_MISSING when the file cannot be read
 */
export async function* readText(file: string, pieceBytes = 1 << 18): AsyncGenerator<TextPiece> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let rest = Buffer.alloc(0);
  let offset = 0;
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: pieceBytes })) {
      const data: Buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk as Buffer]);
      const end = data.length - openBytes(data);
      const whole = data.subarray(0, end);
      if (!isUtf8(whole)) throw encodingError(file, whole, offset);
      const mark = offset === 0 && whole.subarray(0, 3).equals(byteOrderMark) ? 3 : 0;
      offset += end;
      rest = Buffer.from(data.subarray(end));
      if (end > mark) yield { text: decoder.decode(whole.subarray(mark)), bytes: offset };
    }
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    throw new LockstepError(
      'LS_TEXT_MISSING',
      `expected a readable text file, got ${systemProblem(error)}: ${file}`,
      {
        fix: 'Give the path of an existing UTF-8 text file.',
        cause: error,
      },
    );
  }
  if (rest.length > 0) throw encodingError(file, rest, offset);
}

/** Bytes at the end that begin a character without ending it (0 to 3). */
function openBytes(data: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, data.length); back++) {
    const byte = data[data.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

function encodingError(file: string, data: Uint8Array, offset: number): LockstepError {
  const at = firstBadByte(data);
  const byte = (data[at] ?? 0).toString(16).padStart(2, '0');
  return new LockstepError(
    'LS_TEXT_ENCODING',
    `expected UTF-8 text, got byte 0x${byte} at offset ${offset + at} of ${file}`,
    { fix: 'Convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW' },
  );
}

/** Offset of the first byte that belongs to no valid character; data is known to be invalid. */
function firstBadByte(data: Uint8Array): number {
  let at = 0;
  while (at < data.length) {
    const byte = data[at] as number;
    const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (at + length > data.length || !isUtf8(data.subarray(at, at + length))) return at;
    at += length;
  }
  return at;
}
