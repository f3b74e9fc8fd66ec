// Calls of tools in a model's text, as the usual templates teach it to write them.
import { randomInt } from 'node:crypto';
import { type Call, callsIn, isJson, mistralCalls, TAGS } from './tool-call-formats.ts';

export interface ToolCall {
  index: number;
  id: string;
  type: 'function';
  function: Call;
}

/** What a piece of text turned out to be. */
export interface Said {
  content: string;
  /** Complete calls; their arguments never come in pieces. */
  calls: ToolCall[];
}

/** How the text may hold calls. */
export type ToolMode =
  /** Tagged calls anywhere, or a text that is nothing but JSON calls; the first alone if `single`. */
  | { kind: 'free'; names: readonly string[]; single: boolean }
  /** The text is held to a JSON list of `{name, arguments}`. */
  | { kind: 'list' }
  /** The text is held to the arguments of this one tool. */
  | { kind: 'one'; name: string };

/** The text of one choice. What only looked like a call stays text, to the letter. */
export class ToolText {
  readonly #mode: ToolMode;
  #held = '';
  #calls = 0;
  /** It is known to be no JSON. */
  #begun = false;
  readonly #outside = new OutsideStrings();

  constructor(mode: ToolMode) {
    this.#mode = mode;
  }

  /** Whether a call was found so far. */
  get called(): boolean {
    return this.#calls > 0;
  }

  push(text: string): Said {
    this.#held += text;
    const said: Said = { content: '', calls: [] };
    if (this.#mode.kind === 'free' && !this.#mayBeJson(said)) this.#readTagged(said);
    return said;
  }

  /** No text follows. */
  end(): Said {
    const said: Said = { content: '', calls: [] };
    const mode = this.#mode;
    // What began as JSON and is none may hold calls all the same.
    if (mode.kind === 'free' && !this.#begun && !isJson(this.#held)) this.#readTagged(said);
    const rest = this.#take(this.#held.length);
    if (mode.kind !== 'one') this.#read(rest, said);
    else if (isJson(rest)) said.calls.push(this.#call({ name: mode.name, arguments: rest.trim() }));
    else said.content += rest;
    return said;
  }

  /**
   * Models that call without a tag write nothing but JSON; it is known for one at its end alone, or
   * shown to be none by a tag. What stands before that may be JSON: then tags in it are text.
   */
  #mayBeJson(said: Said): boolean {
    if (this.#begun) return false;
    const first = this.#held.trimStart();
    const may = first === '' || first.startsWith('{') || /^\[\s*(\{|$)/.test(first);
    const tag = may ? this.#outside.findTag(this.#held) : 0;
    if (tag === null) return true;
    this.#begun = true;
    if (isJson(this.#held.slice(0, tag))) said.content += this.#take(tag);
    return false;
  }

  /** What is held, but for its end where that may become a call or an opening tag. */
  #readTagged(said: Said): void {
    for (;;) {
      const tag = firstTag(this.#held);
      if (tag === null) {
        const sure = this.#held.length - tailThatMayOpen(this.#held);
        said.content += this.#take(sure);
        return;
      }
      said.content += this.#take(tag.at);
      // Mistral's calls have no closing tag: the next call ends one, or the text does.
      const [opening, closing] = [tag.open.length, tag.close ?? tag.open];
      const found = this.#held.indexOf(closing, opening);
      if (found < 0) return;
      const block = this.#take(tag.close === null ? found : found + closing.length);
      this.#read(block, said);
    }
  }

  #take(count: number): string {
    const text = this.#held.slice(0, count);
    this.#held = this.#held.slice(count);
    return text;
  }

  /** A block from its tag on, or a text without one: its calls, or else the text itself. */
  #read(block: string, said: Said): void {
    const mode = this.#mode;
    const tag = TAGS.find(({ open }) => block.startsWith(open));
    const inner = tag === undefined ? block : block.slice(tag.open.length);
    const text = tag?.close == null ? inner : inner.replace(tag.close, '');
    const calls = callsIn(text) ?? (tag?.close === null ? mistralCalls(text) : null);
    const known = ({ name }: Call) => mode.kind !== 'free' || mode.names.includes(name);
    if (calls === null || !calls.every(known)) {
      said.content += block;
      return;
    }
    const room = mode.kind === 'free' && mode.single ? 1 - this.#calls : calls.length;
    said.calls.push(...calls.slice(0, room).map((call) => this.#call(call)));
  }

  #call(call: Call): ToolCall {
    return { index: this.#calls++, id: callId(), type: 'function', function: call };
  }
}

/** Looks for the first opening tag outside of JSON's strings: JSON has none there. */
class OutsideStrings {
  #at = 0;
  #inString = false;

  /** @param text what was given before, and more */
  findTag(text: string): number | null {
    const sure = text.length - tailThatMayOpen(text);
    for (; this.#at < sure; this.#at += 1) {
      const letter = text[this.#at];
      if (letter === '"') this.#inString = !this.#inString;
      else if (this.#inString) this.#at += letter === '\\' ? 1 : 0;
      else if (TAGS.some(({ open }) => text.startsWith(open, this.#at))) return this.#at;
    }
    return null;
  }
}

/** Nine letters and digits: what Mistral's templates ask of an id; the others take any. */
function callId(): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
  return Array.from({ length: 9 }, () => letters[randomInt(letters.length)]).join('');
}

function firstTag(text: string): ({ at: number } & (typeof TAGS)[number]) | null {
  const found = TAGS.map((tag) => ({ at: text.indexOf(tag.open), ...tag }));
  return found.filter(({ at }) => at >= 0).sort((a, b) => a.at - b.at)[0] ?? null;
}

/** How many of the last characters may be the beginning of an opening tag. */
function tailThatMayOpen(text: string): number {
  const longest = Math.max(...TAGS.map(({ open }) => open.length));
  for (let size = Math.min(longest - 1, text.length); size > 0; size--) {
    const tail = text.slice(text.length - size);
    if (TAGS.some(({ open }) => open.startsWith(tail))) return size;
  }
  return 0;
}
