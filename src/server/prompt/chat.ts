// A conversation as the text the model was trained on: its own chat template.

import { templateContext } from '../../template/context.ts';
import { type TemplateLimits, TemplateRefusal, TemplateRenderer } from '../../template/template.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { HttpError, invalid } from '../errors.ts';

/** A checkpoint's template, rendered in a process of its own (template.ts). */
export interface ChatTemplate {
  /**
   * @param more variables that the request sets itself (`chat_template_kwargs`)
   * @param body the request as it came, from which tools and `more` are read exactly
   */
  render(
    messages: readonly TemplateMessage[],
    tools?: readonly object[] | null,
    more?: object,
    body?: string,
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
  tokenizer: Pick<
    Tokenizer,
    'chatTemplate' | 'chatTemplateFile' | 'toolTemplate' | 'specialTokens'
  >,
  limits: Partial<TemplateLimits> = {},
): ChatTemplate | null {
  const { chatTemplate: source, chatTemplateFile: file, toolTemplate, specialTokens } = tokenizer;
  if (source === null) return null;
  const usual = new TemplateRenderer(source, file ?? 'the checkpoint', limits);
  const forTools =
    toolTemplate && new TemplateRenderer(toolTemplate.text, toolTemplate.file, limits);
  const knowsTools = /\btools\b/.test(toolTemplate?.text ?? source);
  const knowsDevelopers = /\bdeveloper\b/.test(source);
  return {
    check: () => usual.check(),
    close() {
      usual.close();
      forTools?.close();
    },
    async render(messages, tools = null, more = {}, body = undefined) {
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
        options: more,
      });
      const renderer = tools === null ? usual : (forTools ?? usual);
      const asked = tools !== null || Object.keys(more).length > 0;
      return renderer.render(context, asked ? body : undefined).catch((cause: unknown) => {
        // A template's own `raise_exception`: roles that do not alternate, no system message, ...
        if (!(cause instanceof TemplateRefusal)) throw cause;
        const words = `The model's chat template refuses these messages: ${cause.message}`;
        throw invalid('messages', words);
      });
    },
  };
}

/**
 * Calls come without a text; their arguments, a JSON text, are read where the template is rendered. What
 * OpenAI's newer models call `developer` is `system` to a template that does not know that role.
 */
function forTemplate(given: TemplateMessage, knowsDevelopers: boolean): object {
  const older = given.role === 'developer' && !knowsDevelopers;
  const message = older ? { ...given, role: 'system' } : given;
  const calls = (message as { tool_calls?: readonly object[] }).tool_calls;
  return calls === undefined ? message : { ...message, content: message.content ?? '' };
}

export function needTemplate(template: ChatTemplate | null): ChatTemplate {
  if (template !== null) return template;
  throw new HttpError(400, 'This model has no chat template; use /v1/completions.', {
    param: 'messages',
    code: 'chat_template_missing',
  });
}
