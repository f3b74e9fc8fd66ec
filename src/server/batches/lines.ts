// The lines of a file, one after the other, with their byte offsets. A line that is too long is reported, not kept in memory.
import { createReadStream, existsSync } from 'node:fs';

export interface Line {
  /** Place of its first byte and of the byte behind its last, without the line feed. */
  start: number;
  end: number;
  /** Null where it is longer than allowed. */
  bytes: Buffer | null;
  /** A line feed ends it; false: the file ends with it. */
  ended: boolean;
}

const LINE_FEED = 0x0a;

/** @param most most bytes of a line; a file that is not there has no lines */
export async function* linesOf(
  file: string,
  most: number,
  signal?: AbortSignal,
): AsyncGenerator<Line, void> {
  let parts: Buffer[] = [];
  let length = 0;
  let start = 0;
  const line = (ended: boolean): Line => {
    const bytes = length > most ? null : Buffer.concat(parts);
    const found = { start, end: start + length, bytes, ended };
    start += length + 1;
    parts = [];
    length = 0;
    return found;
  };
  const take = (part: Buffer): void => {
    length += part.length;
    if (length <= most) parts.push(part);
    else parts = [];
  };
  if (!existsSync(file)) return;
  const stream = createReadStream(file, signal === undefined ? {} : { signal });
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let at = 0;
    for (let next = chunk.indexOf(LINE_FEED); next !== -1; next = chunk.indexOf(LINE_FEED, at)) {
      take(chunk.subarray(at, next));
      yield line(true);
      at = next + 1;
    }
    take(chunk.subarray(at));
  }
  if (length > 0) yield line(false);
}
