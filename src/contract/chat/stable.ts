// The ids of a fixed text that do not depend on what stands around it.
import type { Tokenizer } from '../../planner/tokenizer.ts';
import type { Place } from './renderings.ts';

/** Ends and beginnings of contents: what a tokenizer may merge with its neighbours. */
const borders = ['', '.', '?', '"', ')', ' ', '\n', '1', 'é', '字', '😀'] as const;

type Encoder = Pick<Tokenizer, 'encode' | 'bytes'>;

/**
 * The longest run of ids within `place.text` that comes out the same after every ending of the content
 * before it, and whatever follows it. It may be empty.
 *
 * @param varies whether a content follows at once, so that its beginning is varied too
 */
export async function stableIds(
  tokenizer: Encoder,
  place: Place,
  varies: boolean,
): Promise<number[]> {
  const { left, middle, text, right } = place;
  const rights = varies ? borders.map((border) => border + right) : [right];
  const length = (ids: readonly number[]): number =>
    ids.reduce((sum, id) => sum + tokenizer.bytes(id).length, 0);
  let stable: number[] | undefined;
  for (const border of borders) {
    const head = left + border + middle + text;
    const alone = [...(await tokenizer.encode(head))];
    let ids = alone;
    for (const after of rights) ids = commonPrefix(ids, await tokenizer.encode(head + after));
    // What changes with its right neighbour is not counted, nor what stands before the text.
    let room = Buffer.byteLength(text) - (length(alone) - length(ids));
    let from = ids.length;
    while (from > 0 && length(ids.slice(from - 1, from)) <= room) {
      from -= 1;
      room -= length(ids.slice(from, from + 1));
    }
    const inside = ids.slice(from);
    stable = stable === undefined ? inside : commonSuffix(stable, inside);
  }
  return stable ?? [];
}

function commonPrefix(one: readonly number[], other: ArrayLike<number>): number[] {
  const at = one.findIndex((id, i) => id !== other[i]);
  return at === -1 ? [...one] : one.slice(0, at);
}

/** The longest common end of two lists of ids. */
export function commonSuffix(one: readonly number[], other: readonly number[]): number[] {
  let length = 0;
  while (
    length < one.length &&
    length < other.length &&
    one.at(-1 - length) === other.at(-1 - length)
  )
    length += 1;
  return one.slice(one.length - length);
}
