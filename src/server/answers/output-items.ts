// The items of output of a `/v1/responses` answer, and the events that build them.
import { randomUUID } from 'node:crypto';
import type { ToolCall } from './tool-calls.ts';

interface TextItem {
  id: string;
  type: 'message';
  role: 'assistant';
  status: string;
  content: { type: 'output_text'; text: string; annotations: []; logprobs: [] }[];
}
type Item = TextItem | ReturnType<typeof callItem>;

export class OutputItems {
  readonly all: Item[] = [];
  /** The item whose text is being written. */
  #open: TextItem | null = null;
  #events = 0;

  get writing(): boolean {
    return this.#open !== null;
  }

  /** The next event of the stream. */
  event(type: string, rest: object): object {
    return { type, sequence_number: this.#events++, ...rest };
  }

  /** Text of the open item; one is begun where none is open. */
  *write(content: string): Generator<object> {
    if (content === '') return;
    const item = this.#open ?? (yield* this.#begin());
    const part = item.content[0] as TextItem['content'][number];
    part.text += content;
    yield this.event('response.output_text.delta', {
      ...this.#place(item),
      content_index: 0,
      delta: content,
      logprobs: [],
    });
  }

  /** End the open item. */
  *finish(status: string): Generator<object> {
    const item = this.#open;
    if (item === null) return;
    this.#open = null;
    item.status = status;
    const [part] = item.content;
    const where = { ...this.#place(item), content_index: 0 };
    const { output_index } = where;
    yield this.event('response.output_text.done', {
      ...where,
      text: part?.text ?? '',
      logprobs: [],
    });
    yield this.event('response.content_part.done', { ...where, part });
    yield this.event('response.output_item.done', { output_index, item });
  }

  /** A whole call of a tool. */
  *tell(call: ToolCall): Generator<object> {
    yield* this.finish('completed');
    const item = callItem(call);
    this.all.push(item);
    const output_index = this.all.length - 1;
    const { arguments: args, name } = call.function;
    yield this.event('response.output_item.added', {
      output_index,
      item: { ...item, arguments: '', status: 'in_progress' },
    });
    const where = { item_id: item.id, output_index };
    yield this.event('response.function_call_arguments.delta', { ...where, delta: args });
    yield this.event('response.function_call_arguments.done', { ...where, name, arguments: args });
    yield this.event('response.output_item.done', { output_index, item });
  }

  *#begin(): Generator<object, TextItem> {
    const item: TextItem = {
      id: `msg_${bareUuid()}`,
      type: 'message',
      role: 'assistant',
      status: 'in_progress',
      content: [],
    };
    this.#open = item;
    this.all.push(item);
    yield this.event('response.output_item.added', {
      output_index: this.all.length - 1,
      item: { ...item, content: [] },
    });
    item.content.push(textPart());
    yield this.event('response.content_part.added', {
      ...this.#place(item),
      content_index: 0,
      part: textPart(),
    });
    return item;
  }

  #place(item: Item) {
    return { item_id: item.id, output_index: this.all.indexOf(item) };
  }
}

function textPart(): TextItem['content'][number] {
  return { type: 'output_text', text: '', annotations: [], logprobs: [] };
}

function callItem({ id, function: { name, arguments: args } }: ToolCall) {
  return {
    id: `fc_${bareUuid()}`,
    type: 'function_call' as const,
    status: 'completed',
    call_id: id,
    name,
    arguments: args,
  };
}

export function bareUuid(): string {
  return randomUUID().replaceAll('-', '');
}
