// The documentation as a site: the README, docs/, and what they link to. The order is that of docs/README.md.
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { defineConfig } from 'vitepress';
import { anchorOf } from '../anchor.ts';

const root = path.resolve(import.meta.dirname, '../../..');
/** Linked files that are no pages, such as examples' code; the site gets a copy. */
const files = new Set<string>();
/** A README is the index page of its folder. */
const rewritten = (page: string): string => page.replace(/(^|\/)README\.md/, '$1index.md');

export default defineConfig({
  title: 'Lockstep',
  description:
    'Train long-context language models with exactly the segmented attention that serves them.',
  srcDir: '../..',
  srcExclude: [
    'src/**',
    'test/**',
    'python/**',
    'scripts/**',
    'dist/**',
    '**/raw/**',
    '**/node_modules/**',
  ],
  outDir: 'dist',
  cacheDir: 'node_modules/.vitepress',
  rewrites: rewritten,
  themeConfig: {
    nav: [
      { text: 'Get started', link: '/docs/get-started' },
      { text: 'Concepts', link: '/docs/concepts' },
      { text: 'HTTP API', link: '/docs/http-api' },
      { text: 'Errors', link: '/docs/errors' },
    ],
    sidebar: sidebar(),
    outline: [2, 3],
    search: { provider: 'local' },
  },
  markdown: {
    anchor: { slugify: anchorOf },
    config: (markdown) => {
      markdown.core.ruler.push('lockstep-links', ({ tokens, env }) => {
        const links = tokens
          .flatMap((token) => token.children ?? [])
          .filter(({ type }) => type === 'link_open');
        for (const link of links) {
          link.attrSet('href', target(link.attrGet('href') ?? '', path.dirname(env.path)));
        }
      });
    },
  },
  // Files without an ending look like pages to VitePress; `target` has checked that they are there.
  ignoreDeadLinks: [/(^|\/)(LICENSE|NOTICE)$/],
  vite: {
    server: { fs: { allow: [root] } },
    // One page of the search index and one of errors are large; that is what they are.
    build: { chunkSizeWarningLimit: 2000 },
  },
  buildEnd: ({ outDir }) => {
    for (const file of files) {
      const to = path.join(outDir, file);
      mkdirSync(path.dirname(to), { recursive: true });
      copyFileSync(path.join(root, file), to);
    }
  },
});

/** Where a link of a page in `folder` leads on the site. Dead links to pages fail the build by themselves. */
function target(href: string, folder: string): string {
  if (/^[a-z]+:|^#/.test(href)) return href;
  const [name = '', anchor] = href.split('#');
  const file = path.resolve(folder, name);
  if (name.endsWith('.md')) return rewritten(name) + (anchor === undefined ? '' : `#${anchor}`);
  if (!existsSync(file) || !statSync(file).isFile()) {
    throw new Error(
      `a page in ${path.relative(root, folder) || '.'} links to ${href}: there is no such file`,
    );
  }
  files.add(path.relative(root, file));
  return href;
}

/** The headings and links of docs/README.md. */
function sidebar(): { text: string; items: { text: string; link: string }[] }[] {
  const groups: ReturnType<typeof sidebar> = [];
  for (const line of readFileSync(path.join(root, 'docs/README.md'), 'utf8').split('\n')) {
    const heading = /^## (.*)/.exec(line)?.[1];
    if (heading !== undefined) groups.push({ text: heading, items: [] });
    const [, text, page] = /^- \[([^\]]*)\]\(([^)]*\.md)\)/.exec(line) ?? [];
    if (text === undefined || page === undefined) continue;
    const link = `/${rewritten(path.posix.join('docs', page)).replace(/(index)?\.md$/, '')}`;
    groups.at(-1)?.items.push({ text, link });
  }
  return groups;
}
