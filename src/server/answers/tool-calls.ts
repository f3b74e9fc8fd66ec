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
export interface ParsedText {
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

/** Finds calls in the text of one choice. What only looked like a call stays text, to the letter. */
export class ToolCallParser {
  readonly #mode: ToolMode;
  #unread = '';
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

  push(text: string): ParsedText {
    this.#unread += text;
    const parsed: ParsedText = { content: '', calls: [] };
    if (this.#mode.kind === 'free' && !this.#mayBeJson(parsed)) this.#readTagged(parsed);
    return parsed;
  }

  /** No text follows. */
  end(): ParsedText {
    const parsed: ParsedText = { content: '', calls: [] };
    const mode = this.#mode;
    // What began as JSON and is none may hold calls all the same.
    if (mode.kind === 'free' && !this.#begun && !isJson(this.#unread)) this.#readTagged(parsed);
    const rest = this.#consume(this.#unread.length);
    if (mode.kind !== 'one') this.#read(rest, parsed);
    else if (isJson(rest))
      parsed.calls.push(this.#call({ name: mode.name, arguments: rest.trim() }));
    else parsed.content += rest;
    return parsed;
  }

  /**
   * Models that call without a tag write nothing but JSON; it is known for one at its end alone, or
   * shown to be none by a tag. What stands before that may be JSON: then tags in it are text.
   */
  #mayBeJson(parsed: ParsedText): boolean {
    if (this.#begun) return false;
    const first = this.#unread.trimStart();
    const may = first === '' || first.startsWith('{') || /^\[\s*(\{|$)/.test(first);
    const tag = may ? this.#outside.findTag(this.#unread) : 0;
    if (tag === null) return true;
    this.#begun = true;
    if (isJson(this.#unread.slice(0, tag))) parsed.content += this.#consume(tag);
    return false;
  }

  /** What is unread, but for its end where that may become a call or an opening tag. */
  #readTagged(parsed: ParsedText): void {
    for (;;) {
      const tag = firstTag(this.#unread);
      if (tag === null) {
        const sure = this.#unread.length - tailThatMayOpen(this.#unread);
        parsed.content += this.#consume(sure);
        return;
      }
      parsed.content += this.#consume(tag.at);
      // Mistral's calls have no closing tag: the next call ends one, or the text does.
      const [opening, closing] = [tag.open.length, tag.close ?? tag.open];
      const found = this.#unread.indexOf(closing, opening);
      if (found < 0) return;
      const block = this.#consume(tag.close === null ? found : found + closing.length);
      this.#read(block, parsed);
    }
  }

  #consume(count: number): string {
    const text = this.#unread.slice(0, count);
    this.#unread = this.#unread.slice(count);
    return text;
  }

  /** A block from its tag on, or a text without one: its calls, or else the text itself. */
  #read(block: string, parsed: ParsedText): void {
    const mode = this.#mode;
    const tag = TAGS.find(({ open }) => block.startsWith(open));
    const inner = tag === undefined ? block : block.slice(tag.open.length);
    const text = tag?.close == null ? inner : inner.replace(tag.close, '');
    const calls = callsIn(text) ?? (tag?.close === null ? mistralCalls(text) : null);
    const known = ({ name }: Call) => mode.kind !== 'free' || mode.names.includes(name);
    if (calls === null || !calls.every(known)) {
      parsed.content += block;
      return;
    }
    const room = mode.kind === 'free' && mode.single ? 1 - this.#calls : calls.length;
    parsed.calls.push(...calls.slice(0, room).map((call) => this.#call(call)));
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
