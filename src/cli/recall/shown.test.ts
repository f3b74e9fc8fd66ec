// How a measurement is shown and kept; what is measured is tested in test/recall.test.ts.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { gridOf, labelOf, shades, shownRows, topHeads } from './grid.ts';
import { recallHtml } from './html.ts';
import { readRecall, storeRecall, withTable } from './recall-file.ts';
import type { RecallFigures, RecallResult } from './run.ts';
import { recallTable } from './table.ts';

const dir = mkdtempSync(path.join(tmpdir(), 'recall-shown-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function figures(first: number, second: number, heads: RecallFigures['heads']): RecallFigures {
  const common = { samples: 8, logp: -0.25 };
  return {
    cells: [
      { length: 1024, depth: 0, recalled: first, ...common },
      { length: 1024, depth: 1, recalled: second, ...common },
    ],
    lengths: [{ length: 1024, recalled: (first + second) / 2, ...common, low: 0.1, high: 0.9 }],
    kinds: [],
    heads,
  };
}

const of = (name: string, weights: 'trained' | 'untrained', execution: 'segmented' | 'full') =>
  ({ name, weights, execution, engine: 'torch', precision: null }) as const;
const held = [
  { layer: 7, head: 2, held: 0.5 },
  { layer: 9, head: 0, held: 0.75 },
];
const result: RecallResult & { digest: string } = {
  digest: 'd',
  asked: {
    ...{ lengths: [1024], depths: [0, 1], samples: 8, seed: 42, text: 'a.txt', skip: 0 },
    wrap: ['', ' '],
  },
  text: { tokens: 500, repeats: 3 },
  rows: [
    { ...of('trained-segmented', 'trained', 'segmented'), ...figures(0.5, 1, held) },
    { ...of('untrained-segmented', 'untrained', 'segmented'), ...figures(0, 0.5, []) },
    { ...of('beside-old', 'untrained', 'segmented'), ...figures(0, 0, held) },
    { ...of('untrained-full', 'untrained', 'full'), ...figures(1, 1, null) },
  ],
  differences: [
    {
      of: 'trained-segmented',
      to: 'untrained-full',
      length: 1024,
      difference: -0.25,
      low: -0.5,
      high: 0,
    },
  ],
};

const contract = {
  digest: 'd',
  policy: { name: 'sentences' },
  segment: { min: 8, max: 64 },
  carry: { size: 16, sinks: 4 },
  retrieval: { size: 8, layers: [1] },
  heads: { long: [[], [0]] },
};

it('rows stand in the order in which they are read', () => {
  expect(shownRows(result).map(labelOf)).toEqual([
    'untrained, full attention',
    'untrained, segmented (torch)',
    'trained, segmented (torch)',
    'old, segmented (torch)',
  ]);
  expect(gridOf(result.rows[0] as RecallFigures, [1024, 2048], [0, 1])).toEqual([
    [0.5, 1],
    [null, null],
  ]);
  expect(topHeads(result.rows[0] as RecallFigures, 1)).toEqual([held[1]]);
});

it('the terminal shows shares, intervals, heads, and a text that stands several times', () => {
  const text = recallTable(result, { write: () => true });
  expect(text).toMatch(
    /trained, segmented \(torch\)\n.*\n {4}1024 +50% +100% +0\.75 \[0\.10, 0\.90\] +-0\.25/,
  );
  expect(text).toContain('heads that held most needles (layer.head) 9.0 75%, 7.2 50%');
  expect(text).toContain('trained-segmented - untrained-full at 1024: -0.25 [-0.50, 0.00]');
  expect(text).toContain('is repeated up to 3 times');
  expect(text).not.toContain('\x1b');
});

it('cells are coloured from rust to teal, in the terminal and on the page', () => {
  const before = process.env['FORCE_COLOR'];
  process.env['FORCE_COLOR'] = '1';
  const text = recallTable(result, { write: () => true });
  if (before === undefined) delete process.env['FORCE_COLOR'];
  else process.env['FORCE_COLOR'] = before;
  expect(text).toContain('\x1b[38;5;231;48;2;157;47;22m    0%\x1b[0m');
  expect(text).toContain('\x1b[38;5;231;48;2;11;119;108m  100%\x1b[0m');
  const page = recallHtml('a<b', result, contract);
  expect(page).toContain('Recall of a&lt;b');
  expect(page).not.toContain('<script');
  const svg = Buffer.from(/src="[^"]*base64,([^"]+)/.exec(page)?.[1] ?? '', 'base64').toString();
  expect(svg).toContain('<title>1,024 tokens, depth 0: 50%</title>');
  for (const shade of [shades[0], shades[5], shades[10]]) expect(svg).toContain(`fill="${shade}"`);
});

it('the card has one table, and what was kept is read again under its contract alone', async () => {
  writeFileSync(path.join(dir, 'README.md'), '# A model\n\nIts words.\n');
  await storeRecall(dir, result);
  const card = (): string => readFileSync(path.join(dir, 'README.md'), 'utf8');
  const once = card();
  expect(once.startsWith('# A model\n\nIts words.\n\n')).toBe(true);
  expect(once).toContain('| untrained, full attention | 100% |');
  await storeRecall(dir, result);
  expect(card()).toBe(once);
  expect(withTable('', 'x')).toMatch(/^<!--/);
  expect(await readRecall(dir, 'd')).toEqual(result);
  await expect(readRecall(dir, 'other')).rejects.toThrow('another contract');
  writeFileSync(path.join(dir, 'recall.json'), '{"digest":"d"}');
  await expect(readRecall(dir, 'd')).rejects.toMatchObject({ code: 'LS_RECALL_FILE' });
  rmSync(path.join(dir, 'recall.json'));
  expect(await readRecall(dir, 'd')).toBeNull();
  await expect(readRecall(dir, 'd', path.join(dir, 'no.json'))).rejects.toThrow('no such file');
  await expect(storeRecall(path.join(dir, 'none'), result)).rejects.toMatchObject({
    code: 'LS_RECALL_WRITE',
  });
});

it('a card that cannot be read is no empty one', async () => {
  const own = path.join(dir, 'own');
  mkdirSync(own);
  symlinkSync('README.md', path.join(own, 'README.md'));
  await expect(storeRecall(own, result)).rejects.toMatchObject({
    code: 'LS_RECALL_WRITE',
    message: expect.stringContaining('links that lead in a circle'),
  });
  expect(readdirSync(own)).toEqual(['README.md']);
  expect(readlinkSync(path.join(own, 'README.md'))).toBe('README.md');
});
