// Conversations of known words, rendered by a chat template: what it writes around them is fixed text.

/** Renders a conversation; `header` asks for the header of an answer at its end. */
export type Render = (messages: readonly Message[], header: boolean) => Promise<string>;

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** A fixed text in its place. `left` ends with a message's content. */
export interface Place {
  left: string;
  /** Between the content and the text. */
  middle: string;
  text: string;
  /** What follows. */
  right: string;
  /** Whether that is a content, which may begin otherwise. */
  varies: boolean;
}

export interface Places {
  /** Ends of prompts: the header of an answer. */
  prompts: Place[];
  /** Headers of answers that the conversation already has. */
  headers: Place[];
  /** Ends of answers, the likeliest first. */
  ends: Place[];
}

/** A template that does not write the contents as they are. */
export class Unwritten extends Error {}

/**
 * Find the fixed texts of two turns of a user and an assistant.
 *
 * @param words contents that no template has: user, assistant, user, assistant
 * @param before messages before them (a system's), or none
 * @throws Unwritten, or what `render` throws
 */
export async function findPlaces(
  render: Render,
  words: readonly string[],
  before: readonly Message[],
): Promise<Places> {
  const messages: Message[] = words.map((content, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content,
  }));
  const upTo = (count: number, header: boolean): Promise<string> =>
    render([...before, ...messages.slice(0, count)], header);
  const [, answer, again] = words as [string, string, string];
  const whole = await upTo(4, false);
  const prompts: Place[] = [];
  const headers: Place[] = [];
  let endOfQuestion = '';
  for (const count of [1, 3]) {
    const asked = words[count - 1] as string;
    const [open, plain] = [await upTo(count, true), await upTo(count, false)];
    const [tail, end] = [split(open, asked)[1], split(plain, asked)[1]];
    endOfQuestion = end;
    const header = tail.startsWith(end) ? tail.slice(end.length) : '';
    // A template that writes no header of its own opens the answer with the end of the question.
    const text = header === '' ? tail : header;
    const middle = tail.slice(0, tail.length - text.length);
    prompts.push({ left: split(open, asked)[0], middle, text, right: '', varies: false });
    headers.push(inHistory(whole, asked, words[count] as string, end));
  }
  const [left, rest] = split(whole, answer);
  const last = split(await upTo(2, false), answer)[1];
  const until = split(rest, again)[0].slice(0, -again.length);
  // A header after every conversation, asked for or not, is no part of what ends an answer.
  const always = last === endOfQuestion && headers[0]?.text === '';
  const text = always ? '' : commonStart(last, until);
  const byItself = { text, right: until.slice(text.length) + again, varies: text === until };
  const byTheNext = { text: until, right: again, varies: true };
  const ends = [byItself, byTheNext].map((end) => ({ left, middle: '', ...end }));
  return { prompts, headers, ends: ends.filter((end) => end.text !== '') };
}

function inHistory(whole: string, asked: string, answer: string, end: string): Place {
  const [left, rest] = split(whole, asked);
  const between = split(rest, answer)[0].slice(0, -answer.length);
  const middle = between.startsWith(end) ? end : '';
  return { left, middle, text: between.slice(middle.length), right: answer, varies: true };
}

/** The text through `word`, and the text after it. */
function split(text: string, word: string): [string, string] {
  const at = text.indexOf(word);
  if (at === -1) throw new Unwritten('a template that leaves a message out');
  return [text.slice(0, at + word.length), text.slice(at + word.length)];
}

/** The longest common beginning of two texts, in whole characters. */
function commonStart(one: string, other: string): string {
  let common = '';
  for (const character of one) {
    if (!other.startsWith(common + character)) break;
    common += character;
  }
  return common;
}
