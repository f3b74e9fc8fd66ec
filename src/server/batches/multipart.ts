// multipart/form-data (RFC 7578) as a stream: the bytes of a file are passed on as they come, and a file is never in memory whole.
import { HttpError, invalid } from '../errors.ts';

/** Most bytes of the headers of one part. */
const MOST_HEAD = 8 * 1024;

export interface PartHead {
  name: string;
  /** Set for files. */
  filename: string | null;
}

export type PartEvent =
  | ({ type: 'head' } & PartHead)
  | { type: 'data'; bytes: Buffer }
  | { type: 'end' };

/** @throws HttpError 400, 415 */
export function boundaryOf(contentType: string): string {
  const [type = ''] = contentType.split(';', 1);
  const found = /;\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType);
  const boundary = found?.[1] ?? found?.[2];
  if (type.trim().toLowerCase() !== 'multipart/form-data') {
    throw new HttpError(415, 'Expected `content-type: multipart/form-data`.', {
      code: 'unsupported_media_type',
    });
  }
  if (boundary !== undefined) return boundary;
  throw invalid(null, 'Expected a `boundary` in `content-type: multipart/form-data`.');
}

/**
 * The parts of a body: of each its head, its data in pieces, its end.
 *
 * @throws HttpError 400 for what is no multipart body, or ends before its last boundary
 */
export async function* partsOf(
  body: AsyncIterable<Buffer>,
  boundary: string,
): AsyncGenerator<PartEvent, void> {
  const delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1');
  // The first boundary has no line before it.
  let rest: Buffer = Buffer.from('\r\n');
  let state: 'before' | 'boundary' | 'head' | 'data' | 'after' = 'before';
  for await (const chunk of body) {
    if (state === 'after') continue;
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let more = true; more; ) {
      more = false;
      if (state === 'before' || state === 'data') {
        const at = rest.indexOf(delimiter);
        // The end may be the beginning of a boundary.
        const sure = at === -1 ? Math.max(0, rest.length - delimiter.length + 1) : at;
        if (state === 'data' && sure > 0) yield { type: 'data', bytes: rest.subarray(0, sure) };
        if (at !== -1 && state === 'data') yield { type: 'end' };
        rest = rest.subarray(at === -1 ? sure : at + delimiter.length);
        if (at === -1) continue;
        state = 'boundary';
        more = true;
      } else if (state === 'boundary') {
        if (rest.length < 2) continue;
        const text = rest.toString('latin1', 0, 128);
        const line = /^[\t ]*\r\n/.exec(text);
        if (text.startsWith('--')) {
          state = 'after';
          rest = Buffer.alloc(0);
        } else if (line !== null) {
          rest = rest.subarray(line[0].length);
          state = 'head';
          more = true;
        } else if (rest.length >= 128 || !/^[\t ]*\r?$/.test(text)) throw broken();
      } else if (state === 'head') {
        const end = rest.indexOf('\r\n\r\n');
        if (end === -1 && rest.length <= MOST_HEAD) continue;
        if (end === -1 || end > MOST_HEAD) throw broken();
        yield { type: 'head', ...headOf(rest.toString('utf8', 0, end)) };
        rest = rest.subarray(end + 4);
        state = 'data';
        more = true;
      }
    }
  }
  if (state === 'after') return;
  throw new HttpError(400, 'The body ended before its last boundary.', { code: 'body_incomplete' });
}

function headOf(text: string): PartHead {
  const line = text.split('\r\n').find((one) => /^content-disposition\s*:/i.test(one)) ?? '';
  const field = (name: string): string | null => {
    const found = new RegExp(`;\\s*${name}="((?:[^"\\\\]|\\\\.)*)"`, 'i').exec(line)?.[1];
    const bare = new RegExp(`;\\s*${name}=([^\\s;"]+)`, 'i').exec(line)?.[1];
    // Browsers and clients write quotes in names as %22.
    return found?.replace(/\\(["\\])/g, '$1').replaceAll('%22', '"') ?? bare ?? null;
  };
  const name = field('name');
  if (!/^content-disposition\s*:\s*form-data/i.test(line) || name === null) throw broken();
  return { name, filename: field('filename') };
}

function broken(): HttpError {
  const words =
    'Expected parts of `multipart/form-data`, each with `content-disposition: form-data` and a name.';
  return invalid(null, words);
}
