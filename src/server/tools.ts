// Calls of tools in a model's text, as the usual templates teach it to write them.
import { randomUUID } from 'node:crypto';

export interface ToolCall {
  index: number;
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** What a piece of text turned out to be. */
export interface Said {
  content: string;
  /** Complete calls; their arguments never come in pieces. */
  calls: ToolCall[];
}

/** How the text may hold calls. */
export type ToolMode =
  /** `<tool_call>{...}</tool_call>` anywhere, or a text that is nothing but JSON calls. */
  | { kind: 'free'; names: readonly string[] }
  /** The text is held to a JSON list of `{name, arguments}`. */
  | { kind: 'list' }
  /** The text is held to the arguments of this one tool. */
  | { kind: 'one'; name: string };

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

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
      const at = this.#held.indexOf(OPEN);
      if (at < 0) {
        const sure = this.#held.length - tailThatMayOpen(this.#held);
        said.content += this.#take(sure);
        return said;
      }
      said.content += this.#take(at);
      const close = this.#held.indexOf(CLOSE);
      if (close < 0) return said;
      const block = this.#take(close + CLOSE.length);
      const found = this.#callsIn(block.slice(OPEN.length, close));
      if (found === null) said.content += block;
      else said.calls.push(...found);
    }
  }

  /** No text follows. */
  end(): Said {
    const rest = this.#take(this.#held.length);
    const mode = this.#mode;
    if (mode.kind === 'one') {
      return isJson(rest)
        ? { content: '', calls: [this.#call(mode.name, rest.trim())] }
        : { content: rest, calls: [] };
    }
    const text = rest.startsWith(OPEN) ? rest.slice(OPEN.length) : rest;
    const found = this.#callsIn(text);
    return found === null ? { content: rest, calls: [] } : { content: '', calls: found };
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

  /** Calls that a JSON text stands for; null where it stands for none. */
  #callsIn(text: string): ToolCall[] | null {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return null;
    }
    const list = Array.isArray(value) ? value : [value];
    const mode = this.#mode;
    const calls = list.map((one: unknown) => {
      const { name, arguments: own, parameters } = (one ?? {}) as Record<string, unknown>;
      const known = mode.kind !== 'free' || mode.names.includes(name as string);
      const given = own ?? parameters ?? {};
      if (typeof name !== 'string' || !known) return null;
      return { name, text: typeof given === 'string' ? given : JSON.stringify(given) };
    });
    if (calls.length === 0 || calls.some((call) => call === null)) return null;
    return calls.map((call) => this.#call((call as { name: string }).name, call?.text ?? ''));
  }

  #call(name: string, args: string): ToolCall {
    const id = `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`;
    return { index: this.#calls++, id, type: 'function', function: { name, arguments: args } };
  }
}

/** How many of the last characters may be the beginning of an opening tag. */
function tailThatMayOpen(text: string): number {
  for (let size = Math.min(OPEN.length - 1, text.length); size > 0; size--) {
    if (OPEN.startsWith(text.slice(text.length - size))) return size;
  }
  return 0;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
