// One look: every colour is a design token, and what is drawn from tokens can be read.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { standaloneStyle, type Token, tokens, tokensCss } from '../src/cli/drawing/tokens.ts';
import { packageRoot } from '../src/paths.ts';
import { legendOf } from '../src/server/page/legend.js';
import { htmlFiles, pictures, report } from './helpers/surfaces.ts';

const page = path.join(packageRoot, 'src/server/page');

/** Files that may hold colours, and why. */
const reasons: Record<string, string> = {
  'src/server/page/tokens.css': 'the tokens themselves',
  'src/server/page/icon.svg':
    'browsers load it without style sheets; its colours are tokens (below)',
};

const NAMES = 'white|black|red|green|blue|gray|grey|orange|purple|yellow|pink|brown|silver';
const LITERALS = [
  /(?<![\w.&#])#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})\b/gi,
  /\b(?:rgb|hsl|hwb|lab|lch|oklab|oklch)a?\(/gi,
  new RegExp(
    `\\b(?:color|background|fill|stroke|border[\\w-]*)\\s*[:=]["'\\s]*(?:${NAMES})\\b`,
    'gi',
  ),
];
const literalsOf = (text: string): string[] => LITERALS.flatMap((one) => text.match(one) ?? []);

function filesBelow(folder: string): string[] {
  return readdirSync(path.join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(css|html|svg|js|ts)$/.test(name) && !/\.test\.ts$/.test(name))
    .map((name) => path.join(folder, name));
}

describe('colours', () => {
  test('stand in tokens.css and nowhere else', () => {
    const files = [...filesBelow('src/server/page'), ...filesBelow('src/cli')];
    expect(files.length).toBeGreaterThan(100);
    const found = files.flatMap((file) => {
      const literals = literalsOf(readFileSync(path.join(packageRoot, file), 'utf8'));
      return literals.length > 0 && reasons[file] === undefined ? [`${file}: ${literals}`] : [];
    });
    expect(found).toEqual([]);
    // What has a reason still holds some: a reason without a colour is out of date.
    for (const file of Object.keys(reasons)) {
      expect(literalsOf(readFileSync(path.join(packageRoot, file), 'utf8')), file).not.toEqual([]);
    }
  });

  test.each([
    'color: #fff',
    'fill="#1d2733"',
    '--x: rgb(0 0 0 / 45%)',
    'background: white',
    'fill="red"',
  ])('the search finds %s', (text) => expect(literalsOf(text)).toHaveLength(1));

  test.each(['href="#main"', '<a href="#s12">', 'this.#add(x)', 'url(#clip)', '&#123;'])(
    'the search leaves %s alone',
    (text) => expect(literalsOf(text)).toEqual([]),
  );

  test('of the mark, of the drawings in the documentation and of the PNG are tokens too', () => {
    const values = new Set([...tokens.values()].flatMap(({ light, dark }) => [light, dark]));
    const drawings = path.join(packageRoot, 'docs/drawings');
    const files = readdirSync(drawings).map((name) => path.join(drawings, name));
    expect(files.length).toBeGreaterThan(3);
    for (const file of [path.join(page, 'icon.svg'), ...files]) {
      const colors = new Set(readFileSync(file, 'utf8').match(/#[0-9a-f]{6}\b/g));
      expect(colors.size).toBeGreaterThan(3);
      expect(
        [...colors].filter((color) => !values.has(color)),
        file,
      ).toEqual([]);
    }
    const site = readFileSync(
      path.join(packageRoot, 'docs/site/.vitepress/theme/style.css'),
      'utf8',
    );
    for (const scheme of ['light', 'dark'] as const) {
      expect(site).toContain(`--vp-c-brand-1: ${tokens.get('accent')?.[scheme]};`);
    }
    const plot = readFileSync(path.join(packageRoot, 'python/lockstep/training/plot.py'), 'utf8');
    expect(plot.match(/#[0-9a-f]{6}/g)).toEqual([tokens.get('segment')?.light]);
  });

  test('each token that is used is defined, and each that is defined is used', () => {
    const defined = [...tokens.keys()];
    const files = [...filesBelow('src/server/page'), ...filesBelow('src/cli')];
    const text = files.map((file) => readFileSync(path.join(packageRoot, file), 'utf8')).join('\n');
    const own = new Set([...text.matchAll(/--([\w-]+):/g)].map((match) => match[1] as string));
    const used = new Set(
      [...text.matchAll(/var\(--([\w-]+)\)/g)].map((match) => match[1] as string),
    );
    expect([...used].filter((name) => !own.has(name) && !/-$/.test(name))).toEqual([]);
    const unused = defined.filter((name) => !used.has(name) && !/^share-\d/.test(name));
    expect(unused).toEqual([]);
  });
});

describe('contrast', () => {
  const lightness = (color: string): number => {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const c = Number.parseInt(color.slice(at, at + 2), 16) / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a: string, b: string, scheme: keyof Token): number => {
    const [x, y] = [a, b].map((name) => lightness(tokens.get(name)?.[scheme] ?? '')) as [
      number,
      number,
    ];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const grounds = ['paper', 'card', 'inset'];
  const segments = ['seg-0', 'seg-1', 'seg-2'];
  const bands = ['band-0', 'band-1', 'band-2'];
  const shares = Array.from({ length: 11 }, (_, i) => `share-${i}`);
  const roles = ['segment', 'sinks', 'carry', 'pool', 'retrieved', 'local', 'long', 'full'];

  test.each(['light', 'dark'] as const)('of text is at least 4.5 to 1 (%s)', (scheme) => {
    const pairs: [string, string[]][] = [
      ['ink', [...grounds, ...segments]],
      ['soft', [...grounds, ...segments]],
      ['accent', grounds],
      ['danger', ['card', 'danger-paper']],
      ['on-accent', ['accent']],
      ['on-danger', ['danger']],
      ['on-said', ['said']],
      ['on-band', bands],
      ['on-share', shares],
    ];
    for (const [text, over] of pairs) {
      for (const ground of over) {
        expect(ratio(text, ground, scheme), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
      }
    }
  });

  test.each(['light', 'dark'] as const)('of what is drawn is at least 3 to 1 (%s)', (scheme) => {
    for (const role of [...roles, 'strong-line', 'accent']) {
      for (const ground of grounds) {
        expect(ratio(role, ground, scheme), `${role} on ${ground}`).toBeGreaterThanOrEqual(3);
      }
    }
  });

  test('roles have different colours', () => {
    for (const scheme of ['light', 'dark'] as const) {
      expect(new Set(roles.map((role) => tokens.get(role)?.[scheme])).size).toBe(roles.length);
    }
  });
});

describe('files of the command line', () => {
  const declarations = [...tokensCss.matchAll(/--[\w-]+:\s*[^;]+;/g)].map(([text]) =>
    text.replaceAll(/\s+/g, ' '),
  );

  test.each(Object.entries(htmlFiles))(
    '%s holds every token and the legend, and no script',
    (_, make) => {
      const text = make();
      const style = /<style>(.*?)<\/style>/s.exec(text)?.[1]?.replaceAll(/\s+/g, ' ') ?? '';
      expect(declarations.length).toBeGreaterThan(40);
      for (const declaration of declarations) expect(style).toContain(declaration);
      expect(text).not.toMatch(/<script|<link rel="stylesheet"|https?:/);
      expect(text).toContain(report.contract.digest.slice(10));
      for (const { name, words } of legendOf(report.contract)) {
        expect(text).toContain(`<b>${name}</b><span>${words.replaceAll('"', '&quot;')}</span>`);
      }
    },
  );

  test('no other file writes HTML of its own', () => {
    const writers = filesBelow('src/cli').filter((file) =>
      readFileSync(path.join(packageRoot, file), 'utf8').includes('<!doctype html>'),
    );
    expect(writers).toEqual(['src/cli/drawing/html-file.ts']);
  });

  test.each(Object.entries(pictures))('%s stands alone: values, no names of tokens', (_, draw) => {
    for (const width of [640, 336]) {
      const svg = draw(width);
      expect(svg).not.toMatch(/var\(|light-dark\(|NaN|undefined/);
      expect(svg).toContain(`background: ${tokens.get('card')?.light}`);
      const dark = /prefers-color-scheme: dark\) \{(.*?)\}@media/s.exec(svg)?.[1] ?? '';
      expect(dark).toContain(`background: ${tokens.get('card')?.dark}`);
    }
  });

  test('a token that is not there is an error', () => {
    expect(() => standaloneStyle('a { color: var(--nothing); }')).toThrow('--nothing');
  });
});

describe('the legend', () => {
  const words = (change: object): Record<string, string> =>
    Object.fromEntries(
      legendOf({ ...report.contract, ...change }).map((entry) => [entry.role, entry.words]),
    );

  test('says what the contract says', () => {
    const all = words({});
    expect(all['segment']).toContain('64 to 512, cut by “sentences”');
    expect(all['sinks']).toBe('The first 4 tokens of the sequence. All heads see them.');
    expect(all['carry']).toBe('The last 128 tokens before the segment. Local heads see them.');
    expect(all['retrieved']).toContain('256 rows of the pool for each long head');
    expect(all['long']).toContain('10 KV heads that see the sinks, the segment and, in 4 layers');
  });

  test('says where there is none, and who else carries', () => {
    const none = words({
      carry: { size: 0, sinks: 0 },
      retrieval: { size: 0, layers: [] },
      heads: { long: [[], []] },
    });
    for (const role of ['sinks', 'carry', 'retrieved', 'pool', 'long']) {
      expect(none[role]).toBe('None in this contract.');
    }
    const all = words({ carry: { size: 8, sinks: 1, heads: 'all' } });
    expect(all['carry']).toBe('The last 8 tokens before the segment. All heads see them.');
    expect(all['sinks']).toBe('The first 1 token of the sequence. All heads see them.');
    expect(all['long']).toContain('the sinks, the carry, the segment and');
  });
});
