// Where a conversation's answers begin and end, in token ids: found by rendering its chat template.
import { LockstepError } from '../../errors.ts';
import type { ChatMarks } from '../../policies/policy.ts';
import { templateContext } from '../../template/context.ts';
import { TemplateRefusal, TemplateRenderer } from '../../template/template.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { findPlaces, type Message, type Places, type Render, Unwritten } from './renderings.ts';
import { commonSuffix, stableIds } from './stable.ts';

export type ChatTokenizer = Pick<
  Tokenizer,
  'dir' | 'chatTemplate' | 'chatTemplateFile' | 'specialTokens' | 'encode' | 'bytes' | 'vocabulary'
>;
type MarksTokenizer = Pick<Tokenizer, 'encode' | 'bytes' | 'vocabulary'>;

/** Two sets of words: what changes with them is no fixed text. */
const words = [
  ['Vorkelda', 'Brenquist', 'Olamride', 'Tusperin'],
  ['Quandrel', 'Mistofer', 'Hablentz', 'Yorvikan'],
] as const;
const system: Message = { role: 'system', content: 'Zalfimer' };

/**
 * The marks of a checkpoint's chat template, with and without a system's message.
 *
 * @throws LS_POLICY_TURNS without a template, for one that refuses a plain conversation, and for one
 *   that has no header of an answer; LS_TEMPLATE_SYNTAX, LS_TEMPLATE_LIMIT
 */
export async function chatMarks(tokenizer: ChatTokenizer): Promise<ChatMarks> {
  const { chatTemplate: source, chatTemplateFile: file, specialTokens } = tokenizer;
  if (source === null) {
    throw refused(
      `a chat template in ${tokenizer.dir}, got none`,
      'Copy chat_template.jinja from the original checkpoint, or take a policy that needs none, such as questions().',
    );
  }
  const name = file ?? tokenizer.dir;
  const renderer = new TemplateRenderer(source, name);
  const render: Render = (messages, addGenerationPrompt) =>
    renderer.render(templateContext({ specialTokens, messages, addGenerationPrompt }));
  try {
    return await marksOf(remembering(tokenizer), await placesOf(render, name), name);
  } finally {
    renderer.close();
  }
}

/** With the ids of each text computed once: the same ones are asked for again and again. */
function remembering(tokenizer: ChatTokenizer): MarksTokenizer {
  const known = new Map<string, Promise<Int32Array>>();
  return {
    vocabulary: tokenizer.vocabulary,
    bytes: (id) => tokenizer.bytes(id),
    encode: (text) => {
      const ids = known.get(text) ?? tokenizer.encode(text);
      known.set(text, ids);
      return ids;
    },
  };
}

/** For each set of words, places without a system's message and with one, where it takes that. */
async function placesOf(render: Render, file: string): Promise<Places[]> {
  const found: Places[] = [];
  let refusal: Error | undefined;
  for (const before of [[], [system]]) {
    for (const set of words) {
      try {
        found.push(await findPlaces(render, set, before));
      } catch (cause) {
        if (!(cause instanceof TemplateRefusal || cause instanceof Unwritten)) throw cause;
        refusal = cause;
      }
    }
  }
  if (found.length > 0) return found;
  throw refused(
    `a chat template that renders two turns of a user and an assistant, got: ${refusal?.message} (${file})`,
    'Correct the chat template, or take a policy that needs none, such as questions().',
  );
}

async function marksOf(
  tokenizer: MarksTokenizer,
  places: readonly Places[],
  file: string,
): Promise<ChatMarks> {
  const { vocabulary } = tokenizer;
  // Marks of a few blanks or stops are not to be told from text.
  const distinct = (ids: readonly number[]): boolean =>
    ids.some((id) => vocabulary.special(id) || /\p{L}/u.test(vocabulary.text(id)));

  let prompt: number[] | undefined;
  const headers: number[][][] = [];
  const ends: number[][][] = [];
  for (const found of places) {
    for (const place of found.prompts) {
      const [ids = []] = await stableIds(tokenizer, place, false);
      prompt = prompt === undefined ? ids : commonSuffix(prompt, ids);
    }
    const here: number[][] = [];
    for (const place of found.headers) here.push(...(await stableIds(tokenizer, place, true)));
    headers.push(here.filter(distinct));
    for (const place of found.ends) {
      const runs = (await stableIds(tokenizer, place, place.varies)).filter(distinct);
      if (runs.length === 0) continue;
      ends.push(runs);
      break;
    }
  }
  const closing = shortest(inAll(ends));
  // A template that writes no header in a prompt: all turns end alike, and the model writes it.
  const known = new Set(closing.map((ids) => ids.join()));
  const opening = [prompt ?? [], ...inAll(headers)].filter(
    (ids) => distinct(ids) && !known.has(ids.join()),
  );
  if (opening.length === 0) {
    const text = places[0]?.prompts[0]?.text ?? '';
    throw refused(
      `a chat template that opens each answer with the same tokens, a special one or letters among them, got ${JSON.stringify(text.slice(0, 80))} (${file})`,
      'Name your own tokens: delimiters({ tokens: [...] }) or delimiters({ strings: [...] }).',
    );
  }
  return { answer: shortest(opening), ends: closing };
}

/** Sequences that every rendering has: what comes with one only is no fixed text. */
function inAll(renderings: readonly (readonly number[][])[]): number[][] {
  const [first = [], ...others] = renderings;
  return first.filter((ids) =>
    others.every((list) => list.some((other) => other.join() === ids.join())),
  );
}

/** Without doubles, and without those that begin with another: one cut for an answer, not two. */
function shortest(sequences: readonly number[][]): number[][] {
  const begins = (one: readonly number[], other: readonly number[]): boolean =>
    one.every((id, i) => id === other[i]);
  return sequences.filter(
    (ids, at) =>
      !sequences.some(
        (other, i) => i !== at && begins(other, ids) && (other.length < ids.length || i < at),
      ),
  );
}

function refused(expected: string, fix: string): LockstepError {
  return new LockstepError('LS_POLICY_TURNS', `expected ${expected}`, { fix, field: 'policy' });
}
