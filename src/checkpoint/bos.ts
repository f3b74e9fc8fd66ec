// Where a chat begins with BOS and a text does not: the first tokens of a sequence are the sinks.

import type { Contract } from '../contract/schema.ts';
import { templateContext } from '../template/context.ts';
import { TemplateRenderer } from '../template/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** The warning that is shown. */
export interface BosWarning {
  code: 'LS_BOS_DIFFERS';
  message: string;
}

type BosTokenizer = Pick<
  Tokenizer,
  'bos' | 'chatTemplate' | 'chatTemplateFile' | 'specialTokens' | 'encode' | 'vocabulary'
>;

/** A warning where chats of this checkpoint begin with BOS, by their template, and texts do not. */
export async function bosWarning(
  contract: Contract,
  tokenizer: BosTokenizer,
): Promise<BosWarning | null> {
  const { bos } = tokenizer;
  if (contract.tokenizer.bos !== null || bos === null) return null;
  if (!(await chatBegins(tokenizer, bos))) return null;
  const text = tokenizer.vocabulary.text(bos);
  const message = `the chat template begins with ${text} (id ${bos}), and plain texts do not, so chats and texts have different sinks. To begin texts with it too, set \`bos: true\` in the config`;
  return { code: 'LS_BOS_DIFFERS', message };
}

async function chatBegins(tokenizer: BosTokenizer, bos: number): Promise<boolean> {
  const { chatTemplate: source, chatTemplateFile: file, specialTokens } = tokenizer;
  // Only one that names it can write it, and a rendering takes a process of its own.
  const names = ['bos_token', tokenizer.vocabulary.text(bos)];
  if (source === null || !names.some((name) => source.includes(name))) return false;
  const renderer = new TemplateRenderer(source, file ?? 'the checkpoint');
  const messages = [{ role: 'user', content: 'a' }];
  try {
    const context = templateContext({ specialTokens, messages, addGenerationPrompt: true });
    const ids = await tokenizer.encode(await renderer.render(context));
    return ids[0] === bos;
  } catch {
    // What refuses a plain message says so where chats are asked for.
    return false;
  } finally {
    renderer.close();
  }
}
