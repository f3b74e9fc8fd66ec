// Where a text may be cut so that its pieces tokenize to exactly the ids of the whole.
//
// A cut stands between a letter or digit and one of a few characters (space, line end, comma, ...).
// - Pre-tokenizers of the GPT-2, cl100k, Llama 3, Qwen and Mistral families scan left to right and
//   no alternative of theirs takes a letter or digit and goes on into such a character.
// - Within a word, BPE and Unigram join what some token of the vocabulary contains. Characters that
//   follow a letter or digit inside any token are taken off the list, so nothing joins over a cut.
// - Normalizers (NFC) compose a character with what follows it only for combining marks; none is on
//   the list.
// Every cut is also checked before it is used (tokenizer-stream.ts compares both ways of tokenizing
// around it), so a pre-tokenizer of another kind loses cuts, never exactness.

/** Characters that may follow a cut. None composes with a combining mark under NFC or NFKC. */
const candidates = ' \n\r\t,.;:!?()[]"、。，；：？！「」）（';

const beforeCut = /[\p{L}\p{N}]/u;

/**
 * Characters before which a cut is safe: those of the candidates that follow a letter or digit in no token.
 *
 * @param texts text of every token
 */
export function cutCharacters(texts: Iterable<string>): ReadonlySet<string> {
  const safe = new Set(candidates);
  const joined = /(?<=[\p{L}\p{N}])[^\p{L}\p{N}]/gu;
  for (const text of texts) {
    if (text.length < 2) continue;
    for (const match of text.matchAll(joined)) safe.delete(match[0]);
  }
  return safe;
}

/**
 * The last safe cut in (from, to] of a text, or -1.
 * A cut at `p` splits the text into [0, p) and [p, ...); `to` must be below the text's length.
 */
export function lastCut(text: string, from: number, to: number, safe: ReadonlySet<string>): number {
  for (let at = Math.min(to, text.length - 1); at > from; at--) {
    if (!safe.has(text[at] as string)) continue;
    // Half of a surrogate pair is no letter by itself: step back over both halves.
    const low = text.charCodeAt(at - 1);
    const before =
      low >= 0xdc00 && low <= 0xdfff ? text.slice(at - 2, at) : (text[at - 1] as string);
    if (beforeCut.test(before)) return at;
  }
  return -1;
}
