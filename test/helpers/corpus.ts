// Real tokens: Shakespeare and the project's own Markdown, by the real model's tokenizer.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';
import { loadTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.ts';

export interface Corpus {
  readonly tokenizer: Tokenizer;
  /** Shakespeare, play after play: about 900,000 tokens. */
  readonly prose: Int32Array;
  /** Markdown and TypeScript files of this repository, the latter in fences. */
  readonly code: Int32Array;
}

export async function loadCorpus(): Promise<Corpus> {
  const home = path.join(packageRoot, '.lockstep');
  const tokenizer = await loadTokenizer(path.join(home, 'models/smollm2-135m-instruct'));
  const plays = path.join(home, 'texts/shakespeare');
  const text = await joined(plays, await readdir(plays));
  const prose = await tokenizer.encode(text.slice(0, 3_000_000));
  const markdown = (await readdir(packageRoot)).filter((name) => name.endsWith('.md'));
  const sources = await readdir(path.join(packageRoot, 'src'), { recursive: true });
  const code = await tokenizer.encode(
    (await joined(packageRoot, markdown)) +
      (await fenced(sources.filter((name) => name.endsWith('.ts')))),
  );
  return { tokenizer, prose, code };
}

async function joined(folder: string, names: readonly string[]): Promise<string> {
  const texts = await Promise.all(
    [...names].sort().map((name) => readFile(path.join(folder, name), 'utf8')),
  );
  return texts.join('\n\n');
}

async function fenced(names: readonly string[]): Promise<string> {
  const texts = await Promise.all(
    [...names].sort().map(async (name) => {
      const text = await readFile(path.join(packageRoot, 'src', name), 'utf8');
      return `# ${name}\n\nThe file. Its text:\n\n\`\`\`ts\n${text}\`\`\`\n\n`;
    }),
  );
  return texts.join('');
}
