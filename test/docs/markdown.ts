// Reads the repository's Markdown: links, the anchors of headings, code blocks and code in lines.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { anchorOf } from '../../docs/site/anchor.ts';
import { packageRoot } from '../../src/paths.ts';

export interface CodeBlock {
  /** What stands after the backticks; the language is its first word. */
  info: string;
  language: string;
  text: string;
  /** `docs/x.md:12`. */
  at: string;
}

export interface Page {
  file: string;
  anchors: Set<string>;
  links: { target: string; at: string }[];
  blocks: CodeBlock[];
  /** Code between backticks in prose and tables. */
  spans: { text: string; at: string }[];
}

/** README, AGENTS, all of docs/ and the READMEs of the examples. */
export const documentation = (): Page[] =>
  [
    'README.md',
    'AGENTS.md',
    'SECURITY.md',
    ...inside('docs', /\.md$/),
    ...inside('examples', /README\.md$/),
  ].map((file) => readPage(file));

/** What was measured: bench/. */
export const results = (): Page[] => inside('bench', /\.md$/).map((file) => readPage(file));

const inside = (folder: string, name: RegExp): string[] =>
  readdirSync(path.join(packageRoot, folder), { recursive: true })
    .map((file) => `${folder}/${String(file).replaceAll(path.sep, '/')}`)
    .filter((file) => name.test(file) && !file.includes('node_modules'))
    .sort();

/** One page; `file` is relative to the package. */
export function readPage(file: string): Page {
  const page: Page = { file, anchors: new Set(), links: [], blocks: [], spans: [] };
  let open: CodeBlock | undefined;
  for (const [index, line] of readFileSync(path.join(packageRoot, file), 'utf8')
    .split('\n')
    .entries()) {
    const at = `${file}:${index + 1}`;
    const fence = /^\s*```([^`]*)$/.exec(line);
    if (fence !== null && open !== undefined) open = undefined;
    else if (fence !== null) {
      const info = (fence[1] as string).trim();
      open = { info, language: info.split(/\s/)[0] as string, text: '', at };
      page.blocks.push(open);
    } else if (open !== undefined) open.text += `${line}\n`;
    else readLine(line, at, page);
  }
  return page;
}

function readLine(line: string, at: string, page: Page): void {
  const heading = /^#{1,6}\s+(.*)$/.exec(line);
  if (heading !== null) {
    const slug = anchorOf(heading[1] as string);
    let anchor = slug;
    for (let n = 1; page.anchors.has(anchor); n++) anchor = `${slug}-${n}`;
    page.anchors.add(anchor);
  }
  for (const [, , text] of line.matchAll(/(`+)([^`].*?)\1(?!`)/g)) {
    page.spans.push({ text: (text as string).trim(), at });
  }
  const prose = line.replace(/(`+)[^`].*?\1(?!`)/g, (code) => 'x'.repeat(code.length));
  for (const [, target] of prose.matchAll(/\]\(([^()\s]+)\)/g)) {
    page.links.push({ target: target as string, at });
  }
}
