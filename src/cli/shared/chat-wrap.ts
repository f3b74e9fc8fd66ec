// What a checkpoint's chat template puts around a user's message.
import { LockstepError } from '../../errors.ts';
import { chatTemplate } from '../../server/prompt/chat.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/**
 * The text before a user's message, and that behind it up to where the answer begins.
 *
 * @throws LS_EVAL_CHAT without a template that holds a message once; LS_TEMPLATE_*
 */
export async function chatWrap(
  tokenizer: Tokenizer,
  fix = 'Leave --chat out: the model then continues plain text.',
): Promise<[string, string]> {
  const template = chatTemplate(tokenizer);
  const mark = '\u{e000}';
  const rendering = template?.render([{ role: 'user', content: mark }]);
  const text = await rendering?.finally(() => template?.close());
  const [before, behind, ...more] = text?.split(mark) ?? [];
  if (before === undefined || behind === undefined || more.length > 0) {
    throw new LockstepError(
      'LS_EVAL_CHAT',
      `expected a chat template in ${tokenizer.dir} that writes each message exactly once, got ${template === null ? 'none' : 'another'}`,
      { fix, field: 'chat' },
    );
  }
  return [before, behind];
}

/** The same, or the texts around a question in plain text where there is no template. */
export async function chatWrapOrPlain(
  tokenizer: Tokenizer,
  fix: string,
): Promise<[string, string]> {
  const template = chatTemplate(tokenizer);
  if (template === null) return [...plainWrap];
  template.close();
  return chatWrap(tokenizer, fix);
}

export const plainWrap: readonly [string, string] = ['', ' '];
