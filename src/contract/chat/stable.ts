// The ids of a fixed text that do not depend on the text around it.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Place } from './renderings.ts';

/** Ends and beginnings of contents: what a tokenizer may merge with its neighbours. */
const borders = ['', '.', '?', '"', ')', ' ', '\n', '1', 'é', '字', '😀'] as const;

type Encoder = Pick<Tokenizer, 'encode' | 'bytes'>;

/**
 * The runs of ids within `place.text` that come out the same after every ending of the content before
 * it; the likeliest first, and none that is empty.
 *
 * One run, as a rule. A tokenizer may split a blank line otherwise where a word follows than where
 * nothing does: there is a run for each then. Where the text's last characters merge with the word that
 * follows, the run ends before them.
 *
 * @param varies whether a content follows at once, so that its beginning is varied too
 */
export async function stableIds(
  tokenizer: Encoder,
  place: Place,
  varies: boolean,
): Promise<number[][]> {
  const { right } = place;
  const usual = await runBefore(tokenizer, place, [right], true);
  const afters = varies ? borders.map((border) => border + right) : [right];
  const all = [...new Set([...afters, ''])];
  if (usual === null) return unlessEmpty(await runBefore(tokenizer, place, all, false));
  const runs = [usual];
  // What merges with an unusual beginning of an answer is left out.
  for (const after of all) runs.push((await runBefore(tokenizer, place, [after], true)) ?? []);
  return [...new Map(runs.map((ids) => [ids.join(), ids])).values()].flatMap(unlessEmpty);
}

/**
 * The longest run of ids within the text that all `afters` and all endings before it have.
 *
 * @param whole give null where the text does not end with an id
 */
async function runBefore(
  tokenizer: Encoder,
  { left, middle, text }: Place,
  afters: readonly string[],
  whole: boolean,
): Promise<number[] | null> {
  const length = (ids: readonly number[]): number =>
    ids.reduce((sum, id) => sum + tokenizer.bytes(id).length, 0);
  let run: number[] | undefined;
  for (const border of borders) {
    const start = left + border + middle;
    const head = start + text;
    // Bytes of ids, not of text: some tokenizers put a space behind each special token.
    const size = length([...(await tokenizer.encode(head))]);
    const outside = length([...(await tokenizer.encode(start))]);
    let ids: number[] | undefined;
    for (const after of afters) {
      const here = [...(await tokenizer.encode(head + after))];
      let count = 0;
      let read = 0;
      for (; count < here.length; count++) {
        const next = length(here.slice(count, count + 1));
        if (read + next > size) break;
        read += next;
      }
      if (whole && read !== size) return null;
      const before = here.slice(0, count);
      ids = ids === undefined ? before : commonPrefix(ids, before);
    }
    const found = ids ?? [];
    // Neither what changes with what follows is counted, nor what stands before the text.
    let room = length(found) - outside;
    let from = found.length;
    while (from > 0) {
      room -= length(found.slice(from - 1, from));
      if (room < 0) break;
      from -= 1;
    }
    const inside = found.slice(from);
    run = run === undefined ? inside : commonSuffix(run, inside);
  }
  return run ?? [];
}

function unlessEmpty(ids: number[] | null): number[][] {
  return ids === null || ids.length === 0 ? [] : [ids];
}

function commonPrefix(one: readonly number[], other: readonly number[]): number[] {
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
