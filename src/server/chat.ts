// A conversation as the text the model was trained on: its own chat template.
import { Template } from '@huggingface/jinja';
import type { Tokenizer } from '../planner/tokenizer.ts';
import { HttpError, invalid } from './errors.ts';
import type { ChatMessage } from './requests.ts';

/** Renders messages to text. Null where the checkpoint has no template. */
export type ChatTemplate = (messages: readonly ChatMessage[]) => string;

/**
 * Compile the checkpoint's template once.
 *
 * The rendering follows transformers' `apply_chat_template(add_generation_prompt=True)`.
 */
export function chatTemplate(
  tokenizer: Pick<Tokenizer, 'chatTemplate' | 'specialTokens'>,
): ChatTemplate | null {
  if (tokenizer.chatTemplate === null) return null;
  const template = new Template(tokenizer.chatTemplate);
  return (messages) => {
    try {
      return template.render({
        ...tokenizer.specialTokens,
        messages,
        add_generation_prompt: true,
        tools: null,
        documents: null,
      });
    } catch (cause) {
      // A template's own `raise_exception`: roles that do not alternate, no system message, ...
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw invalid('messages', `The model's chat template refuses these messages: ${reason}`);
    }
  };
}

export function needTemplate(template: ChatTemplate | null): ChatTemplate {
  if (template !== null) return template;
  throw new HttpError(400, 'This model has no chat template; use /v1/completions.', {
    param: 'messages',
    code: 'chat_template_missing',
  });
}
