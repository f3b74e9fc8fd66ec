// `lockstep report` as a user runs it: a tiny model, trained for real, its report in a real Chromium.
import { execFile } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lineChart } from '../src/cli/drawing/line-chart.ts';
import type { ReportData } from '../src/cli/report/data.ts';
import { retrievalMapsSvg } from '../src/cli/report/retrieval-maps.ts';
import { packageRoot } from '../src/paths.ts';
import { complaintsOf, launch } from './browser.ts';
import { violationsEverywhere } from './helpers/accessibility.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const run = promisify(execFile);
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
let home: string;

const config = `
import { defineConfig, sentences } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
  carry: { size: 8 }, retrieval: { size: 8, layers: [1, 2] },
  heads: { long: [[], [0], [0, 1], []] },
  data: { train: ['text.txt'], validation: ['text.txt'] },
  training: { sequence: 48, learningRate: 3e-3, steps: 4, validateEvery: 1, heldOutTokens: 64 },
});
`;

async function lockstep(args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, [cli, ...args], { cwd: home, env, maxBuffer: 1 << 24 });
}

async function failure(args: string[]): Promise<string> {
  return lockstep(args).then(
    () => expect.fail('expected the command to fail'),
    (error: { stderr: string }) => error.stderr,
  );
}

/** The JSON object that a command ends with. */
function last(stdout: string): Record<string, unknown> {
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

let data: ReportData & { report: string };

beforeAll(async () => {
  home = temporaryFolder('report');
  await tinyModel(path.join(home, 'model'));
  copyFileSync(path.join(packageRoot, 'LICENSE'), path.join(home, 'text.txt'));
  writeFileSync(path.join(home, 'lockstep.config.ts'), config);
  await lockstep(['train', '--json']);
  const { stdout } = await lockstep(['report', 'out', '--text', 'text.txt', '--json']);
  data = last(stdout) as unknown as typeof data;
}, 600_000);
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('lockstep report', () => {
  it('measures what lockstep perplexity measures, the untrained model beside the trained one', async () => {
    // Eight training sequences, as nothing else was asked for; the base is recorded in the checkpoint.
    expect(data.lengths).toEqual([48, 96, 192, 384]);
    const measure = ['--text', 'text.txt', '--tokens', data.lengths.join(), '--json'];
    const { stdout } = await lockstep(['perplexity', 'out', ...measure]);
    const own = last(stdout)['perplexity'] as Record<string, Record<string, number>>;
    for (const n of data.lengths) {
      expect(data.ways.trainedSegmented?.perplexity[n]).toBeCloseTo(own[n]?.['segmented'] ?? 0, 3);
      expect(data.ways.trainedFull?.perplexity[n]).toBeCloseTo(own[n]?.['full'] ?? 0, 3);
    }
    const before = data.ways.baseSegmented?.perplexity['384'] ?? 0;
    expect(data.ways.trainedSegmented?.perplexity['384']).toBeLessThan(0.95 * before);
    expect(data.ways.baseFull?.points.map((point) => point.tokens)).toEqual([384]);
    expect(data.retrieved?.maps.map(({ layer }) => layer)).toEqual([1, 2]);
    // Rows [step, tokens, seconds, loss, learning rate, gradient norm].
    expect(data.training?.curve.map((row) => row[0])).toEqual([1, 2, 3, 4]);
    expect(data.training?.curve[3]).toHaveLength(6);
    expect(data.training?.curve[3]?.[3]).toBeLessThan(8);
    expect(data.training?.validations.length).toBeGreaterThan(1);
  }, 300_000);

  it('is one page that needs nothing else, with pictures that load', async () => {
    expect(data.report).toBe(path.join(home, 'out', 'report.html'));
    const browser = await launch();
    try {
      const page = await browser.newPage();
      const complaints = complaintsOf(page, 'file:');
      await page.goto(pathToFileURL(data.report).href);
      expect(await page.title()).toBe('Report of out');
      const headings = await page.locator('h2').allTextContents();
      expect(headings).toEqual([
        'Perplexity by position',
        'Time and memory by length',
        'Retrieved rows',
        'Training',
        'Contract',
        'What the colours mean',
      ]);
      // Text, because the page's names are unknown to this program.
      const widths = await page.evaluate('[...document.images].map((i) => i.naturalWidth)');
      expect(widths).toEqual(Array(9).fill(640));
      expect(await page.locator('img:not([alt]), img[alt=""]').count()).toBe(0);
      const cell = page.locator('#perplexity-by-position tbody tr', {
        hasText: 'segmented, trained',
      });
      const shown = await cell.locator('td').last().textContent();
      expect(shown).toBe(data.ways.trainedSegmented?.perplexity['384']?.toFixed(2));
      await page.setViewportSize({ width: 360, height: 800 });
      const overflow = await page.evaluate(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      );
      expect(overflow).toBe(0);
      expect(complaints).toEqual([]);
      expect(await violationsEverywhere(page)).toEqual([]);
    } finally {
      await browser.close();
    }
  }, 300_000);

  it('writes Markdown with pictures next to it', async () => {
    const out = path.join(home, 'written', 'report.md');
    await lockstep(['attach', 'model', '--out', 'untrained']);
    mkdirSync(path.dirname(out), { recursive: true });
    // Shorter than what is measured by default: the whole of it is.
    const license = readFileSync(path.join(home, 'text.txt'), 'utf8').slice(0, 600);
    writeFileSync(path.join(home, 'short.txt'), license);
    const args = ['--text', 'short.txt', '--skip', '100', '--out', out];
    const { stdout } = await lockstep(['report', 'untrained', ...args]);
    expect(stdout).toContain(out);
    const text = readFileSync(out, 'utf8');
    expect(text).toContain('untrained under its contract');
    expect(text).not.toContain('## Training');
    const pictures = [...text.matchAll(/!\[[^\]]+\]\(([^)]+)\)/g)].map((match) => match[1] ?? '');
    expect(pictures).toContain('report-perplexity.svg');
    for (const picture of pictures) {
      expect(readFileSync(path.join(path.dirname(out), picture), 'utf8')).toMatch(
        /^<svg .*<\/svg>\n$/s,
      );
    }
  }, 300_000);

  it('refuses what it cannot do, and says how to fix it', async () => {
    expect(await failure(['report', 'out', '--out', 'report.pdf'])).toContain('LS_REPORT_OUT');
    expect(await failure(['report', 'out', '--base', 'nowhere'])).toContain('LS_REPORT_BASE');
    cpSync(path.join(home, 'model'), path.join(home, 'other'), { recursive: true });
    appendFileSync(path.join(home, 'other', 'tokenizer.json'), '\n');
    const other = await failure(['report', 'out', '--base', 'other']);
    expect(other).toContain('expected a base model with tokenizer.json');
    const needless = await failure(['report', 'untrained', '--base', 'model']);
    expect(needless).toContain('was never trained');
    // Before anything is measured: no text as long as this is looked for.
    const out = ['--out', 'text.txt/report.html', '--tokens', '9999999'];
    expect(await failure(['report', 'out', ...out])).toContain('LS_REPORT_WRITE');
    expect(await failure(['report', 'out', '--device', 'nonsense'])).toContain('LS_DEVICE');
    expect(await failure(['report', 'model'])).toMatch(/LS_CONTRACT_\w+/);
    const short = await failure(['report', 'out', '--text', 'text.txt', '--tokens', '9999999']);
    expect(short).toContain('LS_TEXT_SHORT');
    expect(existsSync(path.join(home, 'report.pdf'))).toBe(false);
  }, 300_000);
});

describe('the pictures', () => {
  const ys = (svg: string): number[][] =>
    [...svg.matchAll(/<polyline [^>]*points="([^"]*)"/g)].map((match) =>
      (match[1] ?? '').split(' ').map((pair) => Number(pair.split(',')[1])),
    );

  it('lines keep the order of their values and stay inside', () => {
    const svg = lineChart({
      title: 'a < b',
      xLabel: 'x',
      yLabel: 'y',
      series: [
        {
          label: 'low',
          role: 'full',
          points: [
            [0, 1],
            [10, 2],
            [20, 3],
          ],
        },
        {
          label: 'high',
          role: 'segment',
          points: [
            [0, 10],
            [10, 100],
            [20, 1000],
          ],
        },
      ],
    });
    expect(svg).toContain('a &lt; b');
    expect(svg).toContain('(logarithmic)');
    const [low, high] = ys(svg.replaceAll(/<g.*?<\/g>/g, '')) as [number[], number[]];
    const grid = [...svg.matchAll(/class="grid" [^>]*y1="([\d.]+)"/g)].map((match) =>
      Number(match[1]),
    );
    for (const y of [...low, ...high]) {
      expect(y).toBeGreaterThanOrEqual(Math.min(...grid));
      expect(y).toBeLessThanOrEqual(Math.max(...grid));
    }
    // Factors of ten are equal steps on a logarithmic axis.
    expect((high[0] as number) - (high[1] as number)).toBeCloseTo(
      (high[1] as number) - (high[2] as number),
      0,
    );
    expect(low[0]).toBeGreaterThan(high[0] as number);
  });

  it('a value that is missing leaves a gap, not a broken picture', () => {
    const series = [
      {
        label: 'one',
        role: 'segment' as const,
        points: [
          [0, 1],
          [1, Number.NaN],
          [2, 3],
        ] as [number, number][],
      },
    ];
    const svg = lineChart({ title: 't', xLabel: 'x', yLabel: 'y', series });
    expect(svg).not.toContain('NaN');
    expect(ys(svg)[0]).toHaveLength(2);
  });

  it('retrieval maps draw what was there to be retrieved and shade what was', () => {
    const svg = retrievalMapsSvg({
      bin: 10,
      boundaries: [10, 20],
      maps: [
        {
          layer: 7,
          rows: [
            [1, null],
            [0, 0.5],
          ],
          back: 12,
        },
      ],
    });
    expect(svg).toContain('>Layer 7<');
    expect(svg).toContain('>median 12 tokens back<');
    // Three cells were there: one taken whole, one in half, one not at all.
    expect(svg.match(/class="seen" d="[^"]+"/g)).toHaveLength(3);
    expect(svg).toMatch(/class="retrieved" opacity="1.00" d="M0\.0 0\.0/);
    expect(svg).toMatch(/class="retrieved" opacity="0.56" d="M/);
  });
});
