// A conversation as the text the model was trained on: its own chat template.
import { Template } from '@huggingface/jinja';
import type { Tokenizer } from '../planner/tokenizer.ts';
import { HttpError, invalid } from './errors.ts';

/** Renders messages to text. Null where the checkpoint has no template. */
export type ChatTemplate = (
  messages: readonly TemplateMessage[],
  tools?: readonly object[] | null,
) => string;

/** A message, with whatever fields beside its role the template looks at. */
export type TemplateMessage = { role: string; content?: string | null };

/**
 * Compile the checkpoint's template once.
 *
 * The rendering follows transformers' `apply_chat_template(add_generation_prompt=True)`.
 */
export function chatTemplate(
  tokenizer: Pick<Tokenizer, 'chatTemplate' | 'specialTokens'>,
): ChatTemplate | null {
  if (tokenizer.chatTemplate === null) return null;
  const source = tokenizer.chatTemplate;
  const template = new Template(source);
  return (messages, tools = null) => {
    if (tools !== null && !/\btools\b/.test(source)) {
      throw invalid(
        'tools',
        "`tools`: expected none, for the model's chat template shows it none.",
      );
    }
    try {
      return template.render({
        ...tokenizer.specialTokens,
        messages: messages.map(forTemplate),
        add_generation_prompt: true,
        tools,
        documents: null,
      });
    } catch (cause) {
      // A template's own `raise_exception`: roles that do not alternate, no system message, ...
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw invalid('messages', `The model's chat template refuses these messages: ${reason}`);
    }
  };
}

/** Templates write a call's arguments as JSON themselves; clients send them as text. */
function forTemplate(message: TemplateMessage): object {
  const calls = (message as { tool_calls?: readonly Call[] }).tool_calls;
  if (calls === undefined) return message;
  return {
    ...message,
    content: message.content ?? '',
    tool_calls: calls.map((call) => ({
      ...call,
      function: { ...call.function, arguments: parsedArguments(call.function.arguments) },
    })),
  };
}

interface Call {
  function: { name: string; arguments: string };
}

function parsedArguments(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function needTemplate(template: ChatTemplate | null): ChatTemplate {
  if (template !== null) return template;
  throw new HttpError(400, 'This model has no chat template; use /v1/completions.', {
    param: 'messages',
    code: 'chat_template_missing',
  });
}
