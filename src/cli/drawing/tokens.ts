// The design tokens (src/server/page/tokens.css) for HTML files and for pictures that stand alone.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** `npm run build` copies it beside the compiled server (scripts/copy-assets.mjs). */
const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../server/page');

/** The text of one of the page's files. */
export function pageFile(name: string): string {
  return readFileSync(path.join(folder, name), 'utf8');
}

export const tokensCss = pageFile('tokens.css');

export interface Token {
  light: string;
  dark: string;
}

/** Every token by its name without the dashes; both values are the same where one holds in both schemes. */
export const tokens: ReadonlyMap<string, Token> = new Map(
  [...tokensCss.matchAll(/^\s*--([\w-]+):\s*([^;]+);/gm)].map(([, name = '', value = '']) => {
    const [, light, dark] = /^light-dark\((#\w+), (#\w+)\)$/.exec(value) ?? [];
    return [name, { light: light ?? value, dark: dark ?? value }];
  }),
);

/** The colour of a token in the light scheme: for terminals and PNGs, which have one scheme. */
export function light(name: string): string {
  return find(name).light;
}

/**
 * CSS for a picture that stands alone: in `<img>` or as a file it sees no other style sheet, and not each
 * program that shows SVG knows `var()` and `light-dark()`.
 *
 * @param css rules with `var()` of tokens
 * @returns the rules with light values, then with dark ones for those who prefer them
 */
export function standaloneStyle(css: string): string {
  const fill = (scheme: keyof Token): string =>
    css.replaceAll(/var\(--([\w-]+)\)/g, (_, name: string) => find(name)[scheme]);
  return `${fill('light')}@media (prefers-color-scheme: dark) {${fill('dark')}}@media print {${fill('light')}}`;
}

function find(name: string): Token {
  const token = tokens.get(name);
  if (token === undefined) throw new TypeError(`expected a design token, got --${name}`);
  return token;
}

/** What all pictures share: ground, text, title. Names of classes are those of the drawings. */
export const pictureCss = `
svg { background: var(--card); color: var(--ink); font: 13px var(--sans); font-variant-numeric: tabular-nums; }
text { fill: var(--ink); }
.title { font-size: 16px; font-weight: 650; }
.muted { fill: var(--soft); }
.grid { stroke: var(--line); }
.axis { stroke: var(--strong-line); }
`;
