// Chat templates over the real model's tokenizer, with special tokens of other families added to it.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { prepareTables } from '../../src/contract/prepare.ts';
import { packageRoot } from '../../src/paths.ts';
import { requests } from '../../src/policies/in-memory.ts';
import type { Policy } from '../../src/policies/index.ts';
import { templateContext } from '../../src/template/context.ts';
import { TemplateRenderer } from '../../src/template/template.ts';
import { loadTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.ts';

export const smollm = path.join(packageRoot, '.lockstep/models/smollm2-135m-instruct');

/** Write a tokenizer into `dir`: the real one's words, `added` special tokens, a template or none. */
export async function chatTokenizer(
  dir: string,
  template: string | null,
  added: readonly string[] = [],
): Promise<Tokenizer> {
  const json = JSON.parse(readFileSync(path.join(smollm, 'tokenizer.json'), 'utf8'));
  const known = new Set(json.added_tokens.map(({ content }: { content: string }) => content));
  let id = Object.keys(json.model.vocab).length;
  for (const content of added.filter((text) => !known.has(text))) {
    json.added_tokens.push({ ...json.added_tokens[0], id: id++, content, special: true });
  }
  writeFileSync(path.join(dir, 'tokenizer.json'), JSON.stringify(json));
  const settings = { bos_token: '<|im_start|>', eos_token: '<|im_end|>' };
  writeFileSync(path.join(dir, 'tokenizer_config.json'), JSON.stringify(settings));
  if (template !== null) writeFileSync(path.join(dir, 'chat_template.jinja'), template);
  return loadTokenizer(dir);
}

/** By their templates; they end with this process. */
const renderers = new Map<string, TemplateRenderer>();

export interface Turn {
  role: string;
  content: string;
}

/** A conversation as the model sees it, cut wherever `policy` asks: texts of the segments. */
export async function chatSegments(
  policy: Policy,
  tokenizer: Tokenizer,
  messages: readonly Turn[],
  header: boolean,
): Promise<string[]> {
  const { tables } = await prepareTables(policy, tokenizer);
  const { specialTokens, chatTemplate: source } = tokenizer;
  const renderer =
    renderers.get(source as string) ?? new TemplateRenderer(source as string, 'a test');
  renderers.set(source as string, renderer);
  const context = templateContext({ specialTokens, messages, addGenerationPrompt: header });
  const text = await renderer.render(context);
  const ids = [...(await tokenizer.encode(text))];
  const cuts = requests(policy, JSON.parse(JSON.stringify(tables)), ids);
  const ends = cuts.at(-1) === ids.length ? cuts : [...cuts, ids.length];
  const { vocabulary } = tokenizer;
  return ends.map((end, i) =>
    ids
      .slice(ends[i - 1] ?? 0, end)
      .map((id) => vocabulary.text(id))
      .join(''),
  );
}
