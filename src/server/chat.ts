// A conversation as the text the model was trained on: its own chat template.
import type { Tokenizer } from '../planner/tokenizer.ts';
import { templateContext } from '../template/context.ts';
import { type TemplateLimits, TemplateRefusal, TemplateRenderer } from '../template/template.ts';
import { HttpError, invalid } from './errors.ts';

/** A checkpoint's template, rendered in a process of its own (template.ts). */
export interface ChatTemplate {
  /** @param more variables that the request sets itself (`chat_template_kwargs`) */
  render(
    messages: readonly TemplateMessage[],
    tools?: readonly object[] | null,
    more?: object,
  ): Promise<string>;
  /** @throws LS_TEMPLATE_SYNTAX, LS_TEMPLATE_LIMIT */
  check(): Promise<void>;
  close(): void;
}

/** A message, with whatever fields beside its role the template looks at. */
export type TemplateMessage = { role: string; content?: string | null };

/**
 * The checkpoint's template; null where it has none.
 *
 * The rendering follows transformers' `apply_chat_template(add_generation_prompt=True)`.
 *
 * @throws LS_TEMPLATE_LIMIT for one that is too long itself
 */
export function chatTemplate(
  tokenizer: Pick<Tokenizer, 'chatTemplate' | 'chatTemplateFile' | 'specialTokens'>,
  limits: Partial<TemplateLimits> = {},
): ChatTemplate | null {
  const { chatTemplate: source, chatTemplateFile: file, specialTokens } = tokenizer;
  if (source === null) return null;
  const renderer = new TemplateRenderer(source, file ?? 'the checkpoint', limits);
  const knowsTools = /\btools\b/.test(source);
  const knowsDevelopers = /\bdeveloper\b/.test(source);
  return {
    check: () => renderer.check(),
    close: () => renderer.close(),
    async render(messages, tools = null, more = {}) {
      if (tools !== null && !knowsTools) {
        throw invalid(
          'tools',
          "`tools`: expected none, for the model's chat template shows it none.",
        );
      }
      const context = templateContext({
        specialTokens,
        messages: messages.map((one) => forTemplate(one, knowsDevelopers)),
        addGenerationPrompt: true,
        tools,
      });
      return renderer.render({ ...context, ...more }).catch((cause: unknown) => {
        // A template's own `raise_exception`: roles that do not alternate, no system message, ...
        if (!(cause instanceof TemplateRefusal)) throw cause;
        const words = `The model's chat template refuses these messages: ${cause.message}`;
        throw invalid('messages', words);
      });
    },
  };
}

/**
 * Templates write a call's arguments as JSON themselves; clients send them as text. What OpenAI's newer
 * models call `developer` is `system` to a template that does not know that role.
 */
function forTemplate(given: TemplateMessage, knowsDevelopers: boolean): object {
  const older = given.role === 'developer' && !knowsDevelopers;
  const message = older ? { ...given, role: 'system' } : given;
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
