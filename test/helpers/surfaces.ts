// Each surface that a person looks at, from stated numbers: files of the command line, states of the page.

import { lineChart } from '../../src/cli/drawing/line-chart.ts';
import { lossSvg } from '../../src/cli/drawing/loss-svg.ts';
import {
  type MapHeading,
  SegmentCollector,
  type SegmentMap,
} from '../../src/cli/plan/segment-map.ts';
import { segmentMapHtml } from '../../src/cli/plan/segment-map-html.ts';
import type { HeadsFile } from '../../src/cli/profile/heads-file.ts';
import { headsSvg } from '../../src/cli/profile/heads-svg.ts';
import { recallHtml } from '../../src/cli/recall/html.ts';
import { gridSvg } from '../../src/cli/recall/picture.ts';
import type { RecallFigures, RecallResult } from '../../src/cli/recall/run.ts';
import type { ReportData, RetrievalMap, Way } from '../../src/cli/report/data.ts';
import { reportHtml } from '../../src/cli/report/html.ts';
import { retrievalMapsSvg } from '../../src/cli/report/retrieval-maps.ts';
import { sections } from '../../src/cli/report/sections.ts';

export const digest = '8f1c3a5e7d9b2046fa1c3e5d7b9024681357acef8642bd90f1e2d3c4b5a69788';

/** A repeatable number in [0, 1) for a whole number. */
function noise(at: number): number {
  const x = Math.sin(at * 12.9898 + 4.1414) * 43758.5453;
  return x - Math.floor(x);
}

export const heading: MapHeading = {
  title: 'the-history-of-a-lighthouse.txt',
  model: 'smollm2-135m-segmented',
  policy: 'sentences',
  params: '{"abbreviations":["Mr","Mrs","Dr","... 24 more"]}',
  min: 16,
  max: 64,
  align: 1,
  digest,
};

/** A plan of `count` segments, the last one open. */
export function planMap(count = 60): SegmentMap {
  const texts: string[] = [];
  const sentence =
    'The rain fell in torrents, except at occasional intervals, and the lamp burned. ';
  const collector = new SegmentCollector({
    max: 64,
    decoder: { push: (id) => texts[id] ?? '', end: () => '' },
    headRows: 2000,
    tailRows: 200,
    textLimit: 4_000_000,
  });
  for (let i = 0; i < count; i++) {
    const length = i === 3 ? 64 : 16 + Math.floor(noise(i) * 44);
    const first = texts.length;
    for (let j = 0; j < length; j++) {
      texts.push(sentence.slice((3 * j) % sentence.length, ((3 * j) % sentence.length) + 3));
    }
    if (i === 5) texts[first] = 'x'.repeat(180);
    const ids = Array.from({ length }, (_, j) => first + j);
    collector.add(ids, i === count - 1 ? [] : [first + length]);
  }
  return collector.end();
}

function way(level: number, perplexities: number[], grows: boolean): Way {
  const bins = Array.from(
    { length: 64 },
    (_, i) => level + 0.9 / (1 + i) + 0.08 * noise(i + level),
  );
  const points = [1024, 2048, 3072, 4096, 6144, 8192].map((tokens) => ({
    tokens,
    seconds: grows ? tokens / 900 + (tokens / 4200) ** 2 : tokens / 850,
    held: grows ? tokens * 46_080 : Math.min(tokens, 1600) * 23_000 + tokens * 2_400,
    peak: grows ? tokens * 96_000 : 130_000_000 + tokens * 3_000,
  }));
  const lengths = [1024, 2048, 4096, 8192];
  return {
    perplexity: Object.fromEntries(lengths.map((n, i) => [n, perplexities[i] as number])),
    ...{ bins, points },
  };
}

function retrievalMap(layer: number): RetrievalMap {
  const rows = Array.from({ length: 32 }, (_, row) =>
    Array.from({ length: 32 }, (_, column) => {
      if (column > row) return null;
      const value = noise(layer * 1000 + row * 37 + column);
      return row < 4 ? 1 : value > 0.8 ? value : value > 0.6 ? value / 2 : 0;
    }),
  );
  return { layer, rows, back: 412 + layer };
}

export const recall: RecallResult & { digest: string } = (() => {
  const lengths = [1024, 2048, 4096, 8192];
  const depths = [0, 0.25, 0.5, 0.75, 1];
  const figures = (strength: number, heads: boolean): RecallFigures => {
    const share = (i: number, depth: number): number =>
      Math.min(1, Math.max(0, strength - 0.16 * i * (1 - depth) + 0.1 * noise(i + depth)));
    return {
      cells: lengths.flatMap((length, i) =>
        depths.map((depth) => ({
          ...{ length, depth, samples: 8, logp: -0.4 },
          recalled: Math.round(8 * share(i, depth)) / 8,
        })),
      ),
      lengths: lengths.map((length, i) => ({
        ...{ length, samples: 40, logp: -0.2 - 0.3 * i },
        recalled: share(i, 0.5),
        low: Math.max(0, share(i, 0.5) - 0.11),
        high: Math.min(1, share(i, 0.5) + 0.11),
      })),
      kinds: [],
      heads: heads
        ? Array.from({ length: 14 }, (_, i) => ({ layer: 3 + i, head: i % 3, held: 0.9 - i / 20 }))
        : null,
    };
  };
  const of = (name: string, weights: 'trained' | 'untrained', execution: 'segmented' | 'full') =>
    ({ name, weights, execution, engine: 'torch', precision: null }) as const;
  return {
    digest,
    asked: {
      ...{ lengths, depths, samples: 8, seed: 42, text: 'a.txt', skip: 0 },
      wrap: ['', ' '],
    },
    text: { tokens: 5000, repeats: 2 },
    rows: [
      { ...of('trained-segmented', 'trained', 'segmented'), ...figures(0.95, true) },
      { ...of('untrained-segmented', 'untrained', 'segmented'), ...figures(0.5, true) },
      { ...of('trained-full', 'trained', 'full'), ...figures(1, false) },
      { ...of('untrained-full', 'untrained', 'full'), ...figures(1, false) },
      { ...of('beside-smollm2-carry-512', 'untrained', 'segmented'), ...figures(0.3, true) },
    ],
    differences: [],
  };
})();

export const report: ReportData = {
  name: 'smollm2-135m-segmented',
  text: { file: 'the-history-of-a-lighthouse.txt', skip: 20_000, tokens: 8192 },
  lengths: [1024, 2048, 4096, 8192],
  bin: 128,
  ways: {
    baseFull: way(2.78, [17.01, 16.42, 16.1, 15.88], true),
    baseSegmented: way(3.1, [18.6, 19.9, 21.4, 23.12], false),
    trainedSegmented: way(2.8, [17.2, 16.6, 16.31, 16.05], false),
    trainedFull: way(2.75, [16.9, 16.3, 16.05, 15.8], true),
  },
  retrieved: {
    bin: 256,
    boundaries: Array.from({ length: 32 }, (_, i) => 256 * (i + 1)),
    maps: [4, 11, 17, 23].map(retrievalMap),
  },
  contract: {
    digest,
    policy: { name: 'sentences', params: { abbreviations: ['Mr', 'Mrs', 'Dr'] } },
    segment: { min: 64, max: 512, align: 1 },
    carry: { size: 128, sinks: 4, heads: 'local' },
    retrieval: { size: 256, recipe: 'blocks', layers: [4, 11, 17, 23] },
    heads: { long: Array.from({ length: 30 }, (_, i) => (i % 6 === 4 ? [0, 2] : [])) },
    training: { truncation: 1 },
    trained: { steps: 1200, tokens: 9_830_400 },
  },
  training: {
    settings: {
      sequence: 1024,
      learningRate: 0.0003,
      steps: 1200,
      lora: null,
      seed: 0,
      text: ['a'],
    },
    curve: Array.from({ length: 1200 }, (_, i) => [
      i + 1,
      8192 * (i + 1),
      3 * (i + 1),
      2.8 + 0.9 / (1 + i / 60) + 0.12 * noise(i),
      0.0003 * Math.min(1, (i + 1) / 60) * (1 - i / 1300),
      0.8 + 0.9 * noise(i + 7) + (i === 700 ? 4 : 0),
    ]),
    scores: { before: 3.15, after: 2.802 },
    validations: Array.from({ length: 9 }, (_, i) => [150 * i, 3.14 - 0.04 * i, 2.83 - 0.005 * i]),
  },
  recall,
  base: null,
};

export const heads: HeadsFile = (() => {
  const scores = Array.from({ length: 30 }, (_, layer) =>
    Array.from({ length: 3 }, (_, head) => noise(3 * layer + head) ** 3),
  );
  const long = scores.map((row) => row.flatMap((score, head) => (score > 0.55 ? [head] : [])));
  return {
    kind: 'lockstep heads',
    method: 'gates',
    model: { name: 'SmolLM2-135M-Instruct', sha256: 'a'.repeat(64) },
    heads: { long },
    retrieval: { layers: long.flatMap((row, layer) => (row.length > 0 ? [layer] : [])) },
    scores,
  };
})();

/** The HTML files of the command line, by the command that writes them. */
export const htmlFiles: Record<string, () => string> = {
  plan: () => segmentMapHtml(planMap(), heading, report.contract),
  'plan-empty': () => segmentMapHtml(planMap(0), heading, report.contract),
  report: () => reportHtml(report, sections(report)),
  recall: () => recallHtml(report.name, recall, report.contract),
};

/** The pictures that stand alone, so many pixels wide where a picture can be narrower. */
export const pictures: Record<string, (width: number) => string> = {
  heads: () => headsSvg(heads),
  recall: (width) => gridSvg(recall, width),
  'recall-many': (width) => gridSvg(manyDepths, width),
  retrieved: (width) =>
    retrievalMapsSvg(report.retrieved as NonNullable<ReportData['retrieved']>, width),
  loss: (width) =>
    lossSvg(
      Array.from({ length: 400 }, (_, i) => ({ step: i + 1, loss: 3 + 1 / (i + 1) })),
      { title: 'Training of a-model-with-a-rather-long-name', subtitle: heading.model, width },
    ),
  perplexity: (width) =>
    lineChart({
      title: 'Perplexity by position in the text',
      ...{
        xLabel: 'position (tokens; each point is the mean of 128)',
        yLabel: 'perplexity',
        width,
      },
      series: [
        { label: 'full attention, untrained', role: 'full', look: 'dashed', points: line(17) },
        { label: 'segmented, untrained', role: 'segment', look: 'dashed', points: line(1700) },
        { label: 'segmented, trained', role: 'segment', points: line(18) },
        { label: 'full attention, trained', role: 'full', points: line(16) },
      ],
      mark: { x: 7900, label: 'training sequence' },
    }),
};

function line(level: number): [number, number][] {
  return Array.from({ length: 33 }, (_, i) => [256 * i, level * (1 + 1 / (i + 1))]);
}

const manyDepths = {
  asked: { ...recall.asked, depths: Array.from({ length: 11 }, (_, i) => i / 10) },
  rows: recall.rows.map((row) => ({
    ...row,
    cells: row.cells.flatMap((cell) => [cell, { ...cell, depth: 0.3 }, { ...cell, depth: 0.9 }]),
  })),
};
