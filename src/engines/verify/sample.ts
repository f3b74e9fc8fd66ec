// The text that engines are compared on: its first tokens, read no further than needed.
import path from 'node:path';
import { LockstepError } from '../../errors.ts';
import { pythonRoot } from '../../paths.ts';
import { readText } from '../../tokenizer/text.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/** The default text: the opening of Pride and Prejudice (Jane Austen, 1813) and a few lines of code. */
export const sampleFile: string = path.join(pythonRoot, 'lockstep', 'data', 'verify-sample.txt');

/** Tokens beyond the wanted ones: what follows may still change the last of them. */
const margin = 64;

/**
 * The first `count` ids of a file (BOS among them), or all where there are fewer, and the text that
 * was tokenized for them.
 *
 * @throws LS_TEXT_MISSING, LS_TEXT_ENCODING; LS_TEXT_SHORT below two tokens
 */
export async function takeText(
  file: string,
  count: number,
  tokenizer: Tokenizer,
  bos: number | null,
): Promise<{ text: string; ids: Int32Array }> {
  let wantedCharacters = 8 * count + 1024;
  let text = '';
  let ids = new Int32Array(0);
  const front = bos === null ? [] : [bos];
  for await (const piece of readText(file, 1 << 16)) {
    text += piece.text;
    if (text.length < wantedCharacters) continue;
    ids = Int32Array.from([...front, ...(await tokenizer.encode(text))]);
    if (ids.length >= count + margin) break;
    wantedCharacters = 2 * text.length;
  }
  if (ids.length < count + margin) {
    ids = Int32Array.from([...front, ...(await tokenizer.encode(text))]);
  }
  if (ids.length < 2) {
    throw new LockstepError(
      'LS_TEXT_SHORT',
      `expected at least two tokens in ${file}, got ${ids.length}`,
      {
        fix: 'Name a longer text with --text.',
      },
    );
  }
  return { text, ids: ids.slice(0, count) };
}
