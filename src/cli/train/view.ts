// How a training looks: a live chart on a terminal, plain lines elsewhere, NDJSON with --json.
import path from 'node:path';
import type { Writable } from 'node:stream';
import { lossChart } from '../drawing/loss-terminal.ts';
import { bytes, type CurvePoint, clock, short } from '../drawing/scale.ts';
import type {
  DataEvent,
  PreferenceMetrics,
  ReadSummary,
  ScoreEvent,
  StepEvent,
  TrainEvent,
  TrainResult,
} from './events.ts';

export interface TrainView {
  event(event: TrainEvent): void;
  /** The last words; called once, also after an interruption. */
  end(result: TrainResult | undefined): void;
}

/** What a view is drawn on: `process.stdout`, or a string collector in tests. */
export type Screen = Writable & { isTTY?: boolean; columns?: number };

/** The view for a terminal, a pipe or a program. */
export function trainView(screen: Screen, json: boolean): TrainView {
  if (json) return jsonView(screen);
  return screen.isTTY === true ? liveView(screen) : plainView(screen);
}

function jsonView(screen: Screen): TrainView {
  return {
    event: (event) => void screen.write(`${JSON.stringify(event)}\n`),
    end: (result) => {
      if (result !== undefined) screen.write(`${JSON.stringify(result)}\n`);
    },
  };
}

const REDRAW_MS = 100;
const CHART_HEIGHT = 8;

function liveView(screen: Screen): TrainView {
  const points: CurvePoint[] = [];
  let latest: StepEvent | undefined;
  let drawn = 0;
  let at = 0;
  const wipe = (): void => {
    if (drawn > 0) screen.write(`\x1b[${drawn}A\x1b[0J`);
    drawn = 0;
  };
  const draw = (): void => {
    if (latest === undefined) return;
    const width = Math.min(100, screen.columns ?? 80);
    const lines = [...lossChart(points, width - 1, CHART_HEIGHT), bar(latest, width - 1)];
    wipe();
    screen.write(`${lines.join('\n')}\n`);
    drawn = lines.length;
    at = Date.now();
  };
  return {
    event(event) {
      if (event.event === 'start') {
        points.push(
          ...event.curve.map((row) => ({ step: row[0] ?? 0, loss: row[3] ?? Number.NaN })),
        );
      }
      if (event.event === 'step') {
        points.push({ step: event.step, loss: event.loss });
        latest = event;
        if (Date.now() - at >= REDRAW_MS) draw();
        return;
      }
      wipe();
      if (event.event === 'data') {
        screen.write(`${sentence(event).slice(0, (screen.columns ?? 80) - 1)}\n`);
        drawn = 1;
        return;
      }
      screen.write(`${sentence(event)}\n`);
      draw();
    },
    end(result) {
      draw();
      if (result !== undefined) screen.write(`${summary(result)}\n`);
    },
  };
}

/** `━━━━───── 45%  loss 3.412  1.2k tok/s  980 MB  eta 2:10`, cut to `width` columns. */
function bar(step: StepEvent, width: number): string {
  const facts = stepFacts(step);
  const room = Math.max(10, Math.min(30, width - facts.length - 2));
  const full = Math.round(room * step.progress);
  return `${'━'.repeat(full)}${'─'.repeat(room - full)} ${facts}`.slice(0, width);
}

function stepFacts(step: StepEvent): string {
  const count = step.steps === null ? `step ${step.step}` : `step ${step.step}/${step.steps}`;
  const eta = step.eta === null ? '' : `  eta ${clock(step.eta)}`;
  return (
    `${Math.round(step.progress * 100)}%  ${count}  loss ${step.loss.toFixed(3)}${preferenceText(step)}  ` +
    `${short(Math.round(step.tokensPerSecond))} tok/s  ${bytes(step.memory)}${eta}`
  );
}

const PLAIN_MS = 5000;

function plainView(screen: Screen): TrainView {
  let at = 0;
  return {
    event(event) {
      if (event.event === 'data') {
        if (Date.now() - at < PLAIN_MS) return;
        at = Date.now();
      }
      if (event.event !== 'step') {
        screen.write(`${sentence(event)}\n`);
        return;
      }
      const last = event.step === event.steps;
      if (event.step > 1 && !last && Date.now() - at < PLAIN_MS) return;
      at = Date.now();
      screen.write(`${stepFacts(event)}\n`);
    },
    end(result) {
      if (result !== undefined) screen.write(`${summary(result)}\n`);
    },
  };
}

function sentence(event: Exclude<TrainEvent, StepEvent>): string {
  switch (event.event) {
    case 'start': {
      const budget = event.steps === null ? `${event.minutes} minutes` : `${event.steps} steps`;
      const skipped = event.skipped
        .map((file) => `\nskipped ${file.path}: ${file.reason}`)
        .join('');
      const how = event.mode === 'full' ? ' with full attention (control)' : '';
      const many = event.processes > 1 ? `, ${event.processes} processes` : '';
      const from = event.step > 0 ? `, continuing after step ${event.step}` : '';
      return (
        `training ${event.model}${how}: ${short(event.trainable)} of ${short(event.parameters)} ` +
        `parameters, ${short(event.tokens)} tokens in ${event.documents} documents, ${budget}${many}${from}\n${readSentence(event.read)}${skipped}`
      );
    }
    case 'data':
      return dataSentence(event);
    case 'score':
      return scoreSentence(event);
    case 'warning':
      return `warning ${event.code}: ${event.message}`;
    case 'saved':
      return `saved ${event.path} after step ${event.step}`;
    case 'fallback': {
      const what = event.damaged.map((one) => `${one.path}: ${one.problems.join(', ')}`).join('; ');
      const aside = event.aside === null ? '' : `; what was there is now ${event.aside}`;
      return (
        `the newest checkpoint is ${what === '' ? 'missing' : `damaged (${what})`}. ` +
        `Continuing from the last good checkpoint (${event.path}, step ${event.step})${aside}`
      );
    }
  }
}

const losses = {
  assistant: "the assistant's answers count",
  last: 'the last answer counts',
  all: 'every token counts',
};

/** `format: messages (2 files); of conversations the assistant's answers count (31% of the tokens); …` */
function readSentence(read: ReadSummary): string {
  const formats = Object.entries(read.formats)
    .map(([name, files]) => `${name} (${files} ${files === 1 ? 'file' : 'files'})`)
    .join(', ');
  const share = Math.round((100 * read.targets) / Math.max(1, read.tokens));
  const loss =
    read.loss === null ? '' : `; of conversations ${losses[read.loss]} (${share}% of the tokens)`;
  const end = read.end === null ? 'no end token is added' : `documents end with ${read.end}`;
  return `format: ${formats}${loss}; ${end}`;
}

function dataSentence(event: DataEvent): string {
  const name = path.basename(event.file);
  if (event.stage === 'waiting') return `waiting for another process that tokenizes ${name}`;
  const share = `${Math.floor((100 * event.done) / Math.max(1, event.total))}%`;
  if (event.stage === 'writing') {
    return `writing recall documents: ${share}, ${short(event.done)} of ${short(event.total)} tokens`;
  }
  const size = `${bytes(event.done)} of ${bytes(event.total)}`;
  if (event.stage === 'reading') return `reading ${name}: ${share}, ${size}`;
  const found = `${short(event.tokens)} tokens in ${event.documents} documents`;
  return `tokenizing ${name}: ${share}, ${size}, ${found}`;
}

function scoreSentence(event: ScoreEvent): string {
  const when = event.when === 'during' ? `after step ${event.step}` : `${event.when} training`;
  const size = `(${short(event.targets)} tokens)`;
  if (event.margin !== undefined) {
    const loss = `loss ${event.loss.toFixed(3)}${preferenceText(event, ', ')}`;
    return `held-out rows ${when}: ${loss} (${short(event.targets)} rows)`;
  }
  if (event.segmented === undefined || event.full === undefined) {
    return `held-out text ${when}: ${perplexity(event.loss)} ${size}`;
  }
  return (
    `held-out text ${when}: segmented ${perplexity(event.segmented)}; ` +
    `full attention ${perplexity(event.full)} ${size}`
  );
}

function summary(result: TrainResult): string {
  const done = `${result.step} steps, ${short(result.tokens)} tokens in ${clock(result.seconds)}`;
  if (result.stopped) {
    return `stopped after ${done}; run the same command with --resume to resume`;
  }
  const loss =
    result.loss === null ? '' : `, loss ${result.loss.toFixed(3)}${preferenceText(result, ', ')}`;
  return `trained ${done}${loss}: ${result.out}`;
}

/** `  margin 0.312  accuracy 75%`, of a training on preferences. */
function preferenceText({ margin, accuracy }: PreferenceMetrics, between = '  '): string {
  if (margin === undefined || accuracy === undefined) return '';
  return `${between}margin ${margin.toFixed(3)}${between}accuracy ${Math.round(100 * accuracy)}%`;
}

function perplexity(loss: number): string {
  return `perplexity ${Math.exp(loss).toFixed(2)}, ${loss.toFixed(3)} nats/token`;
}
