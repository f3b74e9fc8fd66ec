// Where each message's content is in the prompt that the chat template made of the messages.
import { randomBytes } from 'node:crypto';
import type { ChatTemplate, TemplateMessage } from './chat.ts';

/** A stretch of the prompt that is a stretch of a message's content. Lengths are UTF-16 code units. */
export interface MessageSpan {
  /** Index into `messages`. */
  message: number;
  /** Where it begins in the prompt. */
  at: number;
  length: number;
  /** Where it begins in the content. */
  within: number;
}

/**
 * Find the messages in the prompt.
 *
 * The template is rendered once more with a mark instead of every content: the text between the
 * marks is the template's own text. A text that only looks like a message is not taken for one. Content
 * has no span if the template changes more than its ends.
 *
 * @param prompt what the template gave for `messages`
 * @param more variables that the request set for it
 * @param body the request as it came
 */
export async function messageSpansOf(
  template: ChatTemplate,
  messages: readonly TemplateMessage[],
  tools: readonly object[] | null,
  prompt: string,
  more: object = {},
  body?: string,
): Promise<MessageSpan[]> {
  // What follows the prompt is the answer: the message after the last.
  const own = { message: messages.length, at: prompt.length, length: Infinity, within: 0 };
  const name = `mark${randomBytes(12).toString('hex')}n`;
  const marked = messages.map((message, i) =>
    message.content ? { ...message, content: `${name}${i}e` } : message,
  );
  let rendered: string;
  try {
    rendered = await template.render(marked, tools, more, body);
  } catch {
    // A template that judges contents refuses the marks; where the messages are is then not known.
    return [own];
  }
  const parts = rendered.split(new RegExp(`${name}(\\d+)e`));
  const contents = messages.map((message) => message.content ?? '');
  return [...align(prompt, contents, parts), own];
}

/** @param parts the template's own texts, and between them the indices of messages */
function align(
  prompt: string,
  contents: readonly string[],
  parts: readonly string[],
): MessageSpan[] {
  const messageSpans: MessageSpan[] = [];
  let at = 0;
  if (!prompt.startsWith(parts[0] as string)) return [];
  at += (parts[0] as string).length;
  for (let i = 1; i + 1 < parts.length; i += 2) {
    const message = Number(parts[i]);
    const next = parts[i + 1] as string;
    const last = i + 2 >= parts.length;
    const length = lengthOf(prompt, at, contents[message] as string, next, last);
    if (length === null) return messageSpans;
    const within = (contents[message] as string).indexOf(prompt.slice(at, at + length));
    if (within >= 0 && length > 0) messageSpans.push({ message, at, length, within });
    at += length + next.length;
  }
  return messageSpans;
}

/** How much of the prompt from `at` on is this content, with the template's `next` behind it. */
function lengthOf(
  prompt: string,
  at: number,
  content: string,
  next: string,
  last: boolean,
): number | null {
  // The content itself may hold what looks like the template's text, so whole contents come first.
  for (const text of [content, content.trim(), content.trimEnd(), content.trimStart()]) {
    if (!prompt.startsWith(text + next, at)) continue;
    if (!last || at + text.length + next.length === prompt.length) return text.length;
  }
  if (next === '' && !last) return null;
  const end = last ? prompt.length - next.length : prompt.indexOf(next, at);
  return end < at || !prompt.startsWith(next, end) ? null : end - at;
}
