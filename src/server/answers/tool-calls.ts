// Calls of tools in a model's text, as the usual templates teach it to write them.
import { randomInt } from 'node:crypto';
import { type Call, callsIn, isJson, mistralCalls, TAGS } from './tool-call-forms.ts';

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
  #begun = false;

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
    if (this.#mode.kind !== 'free' || this.#mayBeJson()) return said;
    for (;;) {
      const tag = firstTag(this.#held);
      if (tag === null) {
        const sure = this.#held.length - tailThatMayOpen(this.#held);
        said.content += this.#take(sure);
        return said;
      }
      said.content += this.#take(tag.at);
      // Mistral's calls have no closing tag: the next call ends one, or the text does.
      const [opening, closing] = [tag.open.length, tag.close ?? tag.open];
      const found = this.#held.indexOf(closing, opening);
      if (found < 0) return said;
      const block = this.#take(tag.close === null ? found : found + closing.length);
      this.#read(block, said);
    }
  }

  /** No text follows. */
  end(): Said {
    const rest = this.#take(this.#held.length);
    const said: Said = { content: '', calls: [] };
    const mode = this.#mode;
    if (mode.kind !== 'one') this.#read(rest, said);
    else if (isJson(rest)) said.calls.push(this.#call({ name: mode.name, arguments: rest.trim() }));
    else said.content = rest;
    return said;
  }

  /** Models that call without a tag write nothing but JSON; it is known for one at its end alone. */
  #mayBeJson(): boolean {
    if (this.#begun) return false;
    const first = this.#held.trimStart();
    if (first === '' || first.startsWith('{') || /^\[\s*(\{|$)/.test(first)) return true;
    this.#begun = true;
    return false;
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
