// A checkpoint's chat templates and the texts of its special tokens, where transformers looks for them.
import { readFile } from 'node:fs/promises';
import path from 'node:path';

/** A template beside the usual one, for requests that bring tools; below the checkpoint's folder. */
export const toolTemplateFile = path.join('additional_chat_templates', 'tool_use.jinja');

export interface TemplateSource {
  /** Jinja2. */
  text: string;
  /** Where it is from. */
  file: string;
}

export interface TemplateSources {
  usual: TemplateSource | null;
  /** For requests that bring tools; null: the usual one. */
  tools: TemplateSource | null;
}

type Settings = Readonly<Record<string, unknown>>;

/**
 * Files of their own go before `chat_template` of tokenizer_config.json, which may be one template or a
 * list of named ones: `default` and `tool_use`.
 */
export async function readTemplates(dir: string, settings: Settings): Promise<TemplateSources> {
  const [usual, tools] = await Promise.all(
    ['chat_template.jinja', toolTemplateFile].map(async (name) => {
      const file = path.join(dir, name);
      const text = await readFile(file, 'utf8').catch(() => null);
      return text === null ? null : { text, file };
    }),
  );
  if (usual || tools) return { usual: usual ?? null, tools: tools ?? null };
  const file = path.join(dir, 'tokenizer_config.json');
  const value = settings['chat_template'];
  const named = Array.isArray(value)
    ? (value as ({ name?: unknown; template?: unknown } | null)[])
    : [];
  const of = (text: unknown): TemplateSource | null =>
    typeof text === 'string' ? { text, file } : null;
  const find = (name: string) => of(named.find((entry) => entry?.name === name)?.template);
  return Array.isArray(value)
    ? { usual: find('default'), tools: find('tool_use') }
    : { usual: of(value), tools: null };
}

/** `*_token` entries of the tokenizer's settings; older files write them as objects. */
export function specialTexts(settings: Settings): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(settings)) {
    if (!name.endsWith('_token')) continue;
    const content = (value as { content?: unknown } | null)?.content ?? value;
    if (typeof content === 'string') texts[name] = content;
  }
  return texts;
}
