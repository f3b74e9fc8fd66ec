// What a report says, in no format yet: sections of sentences, pictures and tables.
import { lineChart, type Series } from '../drawing/line-chart.ts';
import { lossSvg } from '../drawing/loss-svg.ts';
import { bytes, clock, short } from '../drawing/scale.ts';
import { thousands } from '../plan/segment-map.ts';
import { recallSection } from '../recall/section.ts';
import { type CostPoint, measuredWays, type ReportData, type WayName, wasTrained } from './data.ts';
import { retrievalMapsSvg } from './retrieval-maps.ts';
import { type Figure, figureOf, type Section } from './section.ts';

/** A role has one colour; dashed is how things were before training. */
function lookOf(name: WayName, data: ReportData): Pick<Series, 'role' | 'look'> {
  const role = name === 'baseFull' || name === 'trainedFull' ? 'full' : 'segment';
  return wasTrained(data) && name.startsWith('base') ? { role, look: 'dashed' } : { role };
}

/** Every section for which something was measured. */
export function sections(data: ReportData): Section[] {
  const recall = data.recall === null ? null : recallSection(data.recall);
  return [
    perplexity(data),
    recall,
    costs(data),
    retrieved(data),
    training(data),
    contract(data),
  ].filter((section) => section !== null);
}

function perplexity(data: ReportData): Section {
  const ways = measuredWays(data);
  const series = ways.map(({ name, label, way }) => ({
    label,
    ...lookOf(name, data),
    points: way.bins.map(
      (loss, i) => [(i + 0.5) * data.bin, Math.exp(Math.min(loss, 700))] as const,
    ),
  }));
  const sequence = data.training?.settings['sequence'];
  return {
    title: 'Perplexity by position',
    paragraphs: [gap(data), held(data)].filter((text) => text !== ''),
    figures: [
      figureOf(
        'perplexity',
        `Perplexity by position over ${thousands(data.text.tokens)} tokens: ${series.map(({ label }) => label).join(', ')}`,
        (width) =>
          lineChart({
            title: 'Perplexity by position in the text',
            xLabel: `position (tokens; each point is the mean of ${data.bin})`,
            yLabel: 'perplexity',
            ...{ series, width },
            xText: short,
            yText: decimal,
            ...(typeof sequence === 'number' && sequence < data.text.tokens
              ? { mark: { x: sequence, label: 'training sequence' } }
              : {}),
          }),
      ),
    ],
    tables: [
      {
        caption: 'Perplexity of the first n tokens',
        head: ['n', ...data.lengths.map(thousands)],
        rows: ways.map(({ label, way }) => [
          label,
          ...data.lengths.map((n) => way.perplexity[n]?.toFixed(2) ?? ''),
        ]),
      },
    ],
  };
}

/** What running in segments costs against full attention, and what training changed of it. */
function gap(data: ReportData): string {
  const most = data.lengths.at(-1) as number;
  const at = (name: WayName): number | undefined => data.ways[name]?.perplexity[most];
  const over = (a: number, b: number): string => {
    const percent = 100 * (a / b - 1);
    return `${Math.abs(percent).toFixed(1)}% ${percent >= 0 ? 'above' : 'below'}`;
  };
  const [full, before] = [at('baseFull'), at('baseSegmented')];
  const [after, trainedFull] = [at('trainedSegmented'), at('trainedFull')];
  const first =
    full === undefined || before === undefined
      ? ''
      : `Over ${thousands(most)} tokens the untrained model run in segments is ${over(before, full)} its own full attention.`;
  if (after === undefined || trainedFull === undefined) return first;
  const second = `The trained one is ${over(after, trainedFull)} its own full attention`;
  const third = full === undefined ? '' : `, and ${over(after, full)} that of the untrained model`;
  return `${first} ${second}${third}.`.trim();
}

function held(data: ReportData): string {
  const { file, skip, tokens } = data.text;
  const from = skip > 0 ? `, from character ${thousands(skip)} on` : '';
  return `Text: ${file}${from}, ${thousands(tokens)} tokens. Judge by text that the training has not seen.`;
}

function costs(data: ReportData): Section | null {
  const segmented = data.ways.trainedSegmented ?? data.ways.baseSegmented;
  const full = data.ways.trainedFull ?? data.ways.baseFull;
  if (segmented === undefined || full === undefined) return null;
  const chart = (
    name: string,
    title: string,
    yLabel: string,
    value: (point: CostPoint) => number,
    yText: (value: number) => string,
  ): Figure =>
    figureOf(name, `${title}, segmented against full attention`, (width) =>
      lineChart({
        ...{ title, yLabel, yText, width },
        xLabel: 'length (tokens)',
        zero: true,
        series: [
          { label: 'full attention', role: 'full', points: line(full.points, value) },
          { label: 'segmented', role: 'segment', points: line(segmented.points, value) },
        ],
        xText: short,
      }),
    );
  const at = (points: CostPoint[], n: number): CostPoint | undefined =>
    points.findLast((point) => point.tokens <= n);
  const rows = data.lengths.map((n) => {
    const [a, b] = [at(segmented.points, n), at(full.points, n)];
    const cell = (show: (point: CostPoint) => string): string =>
      [a, b].map((point) => (point === undefined ? '–' : show(point))).join(' / ');
    return [
      thousands(n),
      cell(({ seconds }) => `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`),
      cell(({ held: kept }) => bytes(kept)),
      cell(({ peak }) => bytes(peak)),
    ];
  });
  return {
    title: 'Time and memory by length',
    paragraphs: [
      'One pass over the text, losses included. Kept between steps: sinks, carry, pool, retrieved rows and the open segment, just before it ends, against the whole KV cache. Peak: the most memory taken beyond the loaded model. Other work on the machine makes times longer.',
    ],
    figures: [
      chart('time', 'Time by length', 'seconds', (point) => point.seconds, decimal),
      chart('memory', 'Kept between steps, by length', 'MB', (point) => point.held / 1e6, decimal),
      chart('peak', 'Peak memory beyond the model', 'MB', (point) => point.peak / 1e6, decimal),
    ],
    tables: [
      {
        caption: 'Segmented (at the last boundary until there) / full attention',
        head: ['tokens', 'time', 'kept', 'peak'],
        rows,
      },
    ],
  };
}

function line(points: CostPoint[], value: (point: CostPoint) => number): [number, number][] {
  return points.map((point) => [point.tokens, value(point)]);
}

function retrieved(data: ReportData): Section | null {
  if (data.retrieved === null) return null;
  const { size, recipe } = data.contract.retrieval;
  const found = data.retrieved;
  return {
    title: 'Retrieved rows',
    paragraphs: [
      `At every boundary each long head of a retrieving layer takes ${thousands(size)} rows out of its pool (recipe ${recipe}). While the pool has no more rows than that, all are retrieved. The stronger a cell, the more of its stretch of the text was retrieved.`,
    ],
    figures: [
      figureOf(
        'retrieved',
        `Retrieved rows of layers ${data.retrieved.maps.map(({ layer }) => layer).join(', ')}`,
        (width) => retrievalMapsSvg(found, width),
      ),
    ],
    tables: [],
  };
}

function training(data: ReportData): Section | null {
  const { training: state } = data;
  if (state === null || state.curve.length === 0) return null;
  const curve = (column: number): [number, number][] =>
    state.curve.map((row) => [row[0] ?? 0, row[column] ?? Number.NaN]);
  const [steps, tokens, seconds] = state.curve.at(-1) as [number, number, number];
  const settings = Object.entries(state.settings)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]);
  const chart = (name: string, title: string, yLabel: string, column: number): Figure =>
    figureOf(name, `${title} over ${thousands(steps)} steps`, (width) =>
      lineChart({
        ...{ title, yLabel, width },
        xLabel: 'optimizer step',
        zero: true,
        series: [{ label: 'each step', role: 'segment', points: curve(column) }],
        xText: short,
        yText: decimal,
      }),
    );
  const scores = Object.entries(state.scores).map(
    ([when, loss]) => `${when} ${Math.exp(loss).toFixed(2)}`,
  );
  return {
    title: 'Training',
    paragraphs: [
      `${thousands(steps)} steps, ${thousands(tokens)} tokens, ${clock(seconds)} of training.${scores.length > 0 ? ` Perplexity of the held-out text of the training: ${scores.join(', ')}.` : ''}`,
    ],
    figures: [
      figureOf('loss', `Training loss over ${thousands(steps)} steps`, (width) =>
        lossSvg(
          state.curve.map((row) => ({ step: row[0] ?? 0, loss: row[3] ?? Number.NaN })),
          { title: 'Loss', width },
        ),
      ),
      ...validation(state.validations),
      chart('rate', 'Learning rate', 'learning rate', 4),
      chart('norm', 'Norm of the gradient', 'norm before clipping', 5),
    ],
    tables: [{ caption: 'Settings', head: ['setting', 'value'], rows: settings, words: true }],
  };
}

/** Held-out perplexity during the training, where it was scored twice or more. */
function validation(rows: readonly number[][]): Figure[] {
  if (rows.length < 2) return [];
  const points = (column: number): [number, number][] =>
    rows.map((row) => [row[0] ?? 0, Math.exp(row[column] ?? Number.NaN)]);
  return [
    figureOf(
      'validation',
      `Perplexity of held-out text during the training, ${rows.length} times`,
      (width) =>
        lineChart({
          title: 'Held-out text during the training',
          xLabel: 'optimizer step',
          yLabel: 'perplexity',
          series: [
            { label: 'run segmented', role: 'segment', points: points(1) },
            { label: 'run with full attention', role: 'full', points: points(2) },
          ],
          xText: short,
          yText: decimal,
          width,
        }),
    ),
  ];
}

function contract(data: ReportData): Section {
  const { policy, segment, carry, retrieval, heads, training: own } = data.contract;
  const { digest, trained } = data.contract;
  const long = heads.long.reduce((sum, list) => sum + list.length, 0);
  const rows = [
    ['digest', digest],
    ['policy', `${policy.name} ${JSON.stringify(policy.params)}`],
    [
      'segment',
      `${segment.min} to ${segment.max} tokens${segment.align > 1 ? `, multiples of ${segment.align}` : ''}`,
    ],
    ['carry', `last ${carry.size} tokens, and the first ${carry.sinks} (sinks)`],
    [
      'retrieval',
      retrieval.size === 0
        ? 'none'
        : `${retrieval.size} rows, recipe ${retrieval.recipe}, layers ${retrieval.layers.join(', ')}`,
    ],
    ['long KV heads', `${long} over ${heads.long.length} layers`],
    ...(own === null
      ? []
      : [
          [
            'gradient crosses',
            own.truncation === 1 ? '1 boundary' : `${own.truncation} boundaries`,
          ],
        ]),
    [
      'trained',
      trained.steps === 0
        ? 'never under this contract'
        : `${thousands(trained.steps)} steps, ${thousands(trained.tokens)} tokens`,
    ],
  ];
  return {
    title: 'Contract',
    paragraphs: [],
    figures: [],
    tables: [
      { caption: 'What the model is trained and served under', head: ['', ''], rows, words: true },
    ],
  };
}

function decimal(value: number): string {
  if (!Number.isFinite(value)) return '?';
  return Math.abs(value) >= 1000 || value === 0
    ? short(value)
    : String(Number(value.toPrecision(4)));
}
