// Texts of any length to the ids of the whole, piece by piece, in bounded memory.
import assert from 'node:assert';
import { LockstepError } from '../errors.ts';
import { lastCut } from './cut.ts';
import type { TextPiece } from './text.ts';

/** Ids of one stretch of the text. */
export interface TokenPiece {
  ids: Int32Array;
  /** UTF-8 bytes of the text up to the end of this stretch. */
  bytes: number;
}

export interface StreamOptions {
  encode: (text: string) => Promise<ArrayLike<number>>;
  /** Characters before which a cut is safe (tokenizer-cut.ts). */
  safe: ReadonlySet<string>;
  /** Contents of added tokens: never cut inside one. */
  added: readonly string[];
  /** UTF-16 units a piece; default 65,536. */
  pieceLength?: number;
  /** UTF-16 units without any safe cut before giving up; default 4 Mi: native code gives up, and ends the process, at 10 million. */
  limit?: number;
}

/** How far each side of a cut is looked at when it is checked, in UTF-16 units. */
const checked = 192;
/** Stands before every piece but the first, so that no tokenizer takes it for the start of a text. */
const lead = 'a';

/**
 * Ids of a text that comes in pieces; their concatenation equals tokenizing the whole text at once.
 *
 * @throws LS_TEXT_UNSPLITTABLE when `limit` characters hold no safe place to cut
 */
export async function* encodePieces(
  source: AsyncIterable<TextPiece> | Iterable<TextPiece>,
  options: StreamOptions,
): AsyncGenerator<TokenPiece> {
  const { encode, pieceLength = 1 << 16, limit = 1 << 22 } = options;
  let pending = '';
  let first = true;
  let searched = 0;
  let bytes = 0;
  for await (const piece of source) {
    pending += piece.text;
    while (pending.length >= pieceLength + checked) {
      const at = await findCut(pending, searched, options, pieceLength);
      if (at === -1) {
        searched = pending.length - checked;
        break;
      }
      const text = pending.slice(0, at);
      bytes += Buffer.byteLength(text);
      yield { ids: await encodePiece(text, first, encode), bytes };
      pending = pending.slice(at);
      first = false;
      searched = 0;
    }
    if (pending.length > limit) throw unsplittable(pending.length, piece.bytes);
  }
  bytes += Buffer.byteLength(pending);
  if (pending !== '') yield { ids: await encodePiece(pending, first, encode), bytes };
}

/** The last checked cut of the first piece of `text` that lies beyond `searched`, or -1. */
async function findCut(
  text: string,
  searched: number,
  options: StreamOptions,
  pieceLength: number,
): Promise<number> {
  // A stretch without cuts grows `text` beyond one piece; the first cut after it is then wanted.
  let from = searched;
  while (from < text.length - checked) {
    const to = Math.min(from + pieceLength, text.length - checked);
    let at = lastCut(text, from, to, options.safe);
    while (at !== -1) {
      if (!insideAdded(text, at, options.added) && (await holds(text, at, options.encode)))
        return at;
      at = lastCut(text, from, at - 1, options.safe);
    }
    from = to;
  }
  return -1;
}

/** Whether an added token's content covers both sides of `at`. */
function insideAdded(text: string, at: number, added: readonly string[]): boolean {
  return added.some((content) => {
    for (let start = at - content.length + 1; start < at; start++) {
      if (start >= 0 && text.startsWith(content, start)) return true;
    }
    return false;
  });
}

/** Tokenizing around the cut at once and in two parts gives the same ids. */
async function holds(text: string, at: number, encode: StreamOptions['encode']): Promise<boolean> {
  const start = whole(text, Math.max(0, at - checked));
  const end = whole(text, Math.min(text.length, at + checked));
  const together = await encode(text.slice(start, end));
  const left = await encode(text.slice(start, at));
  const right = await encodeLater(text.slice(at, end), encode);
  if (right === null || together.length !== left.length + right.length) return false;
  for (let i = 0; i < together.length; i++) {
    if (together[i] !== (i < left.length ? left[i] : right[i - left.length])) return false;
  }
  return true;
}

/** Move a position off the middle of a surrogate pair. */
function whole(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit <= 0xdfff ? at - 1 : at;
}

async function encodePiece(
  text: string,
  first: boolean,
  encode: StreamOptions['encode'],
): Promise<Int32Array> {
  const ids = first ? Int32Array.from(await encode(text)) : await encodeLater(text, encode);
  assert(ids !== null, 'the check of a cut covers its lead');
  return ids;
}

/** Ids of a piece that does not stand at the start of the text; null where the lead would join it. */
async function encodeLater(
  text: string,
  encode: StreamOptions['encode'],
): Promise<Int32Array | null> {
  const prefix = await encode(lead);
  const ids = await encode(lead + text);
  for (let i = 0; i < prefix.length; i++) if (ids[i] !== prefix[i]) return null;
  return Int32Array.from(ids).subarray(prefix.length);
}

function unsplittable(length: number, bytes: number): LockstepError {
  return new LockstepError(
    'LS_TEXT_UNSPLITTABLE',
    `expected a place to split the text within ${length} characters, got none before byte ${bytes}`,
    { fix: 'Break the text into lines, or leave out the stretch without spaces or punctuation.' },
  );
}
