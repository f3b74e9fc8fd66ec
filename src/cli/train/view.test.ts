import { describe, expect, it } from 'vitest';
import type { ScoreEvent, StartEvent, StepEvent, TrainResult } from './events.ts';
import { type Screen, trainView } from './view.ts';

const start: StartEvent = {
  event: 'start',
  mode: 'segmented',
  model: 'tiny',
  out: 'out',
  parameters: 2_000_000,
  trainable: 1_500_000,
  processes: 1,
  documents: 3,
  tokens: 123_456,
  skipped: [{ path: 'void.txt', reason: 'empty' }],
  read: {
    formats: { text: 1, messages: 2 },
    loss: 'assistant',
    end: '</s>',
    tokens: 200,
    targets: 61,
  },
  step: 0,
  steps: 40,
  minutes: null,
  curve: [],
};
const step = (n: number): StepEvent => ({
  event: 'step',
  step: n,
  steps: 40,
  loss: 4 - n / 20,
  learningRate: 1e-4,
  gradientNorm: 1,
  tokens: n * 100,
  tokensPerSecond: 1234.5,
  memory: 987_654_321,
  seconds: n,
  progress: n / 40,
  eta: 40 - n,
});
const score: ScoreEvent = {
  event: 'score',
  when: 'before',
  step: 0,
  loss: Math.log(20),
  targets: 511,
};
const result: TrainResult = {
  event: 'result',
  out: 'out',
  stopped: false,
  step: 40,
  steps: 40,
  tokens: 4000,
  seconds: 40,
  loss: 2.1,
  scores: {},
  validations: [],
  trained: { steps: 40, tokens: 4000 },
};

function screen(isTTY: boolean, columns = 80): { screen: Screen; text: () => string } {
  let text = '';
  const write = (chunk: string): boolean => {
    text += chunk;
    return true;
  };
  return { screen: { write, isTTY, columns } as unknown as Screen, text: () => text };
}

function play(isTTY: boolean, json: boolean, last: TrainResult = result, columns = 80): string {
  const drawn = screen(isTTY, columns);
  const view = trainView(drawn.screen, json);
  view.event(start);
  view.event(score);
  for (let n = 1; n <= 39; n++) view.event(step(n));
  view.event({ event: 'saved', path: 'out', step: 39, seconds: 1 });
  view.event(step(40));
  view.end(last);
  return drawn.text();
}

describe('trainView', () => {
  it('prints one JSON object per line, the result last', () => {
    const lines = play(false, true).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).event)).toEqual([
      'start',
      'score',
      ...Array.from({ length: 39 }, () => 'step'),
      'saved',
      'step',
      'result',
    ]);
    expect(JSON.parse(lines.at(-1) as string)).toEqual(result);
  });

  it('prints few plain lines in a pipe, the first and the last step among them', () => {
    const text = play(false, false);
    expect(text).not.toContain('\x1b');
    expect(text).toContain('1.5M of 2M parameters, 123k tokens in 3 documents, 40 steps');
    expect(text).toContain(
      "format: text (1 file), messages (2 files); of conversations the assistant's answers count " +
        '(31% of the tokens); documents end with </s>',
    );
    expect(text).toContain('skipped void.txt: empty');
    expect(text).toContain('perplexity 20.00');
    expect(text).toContain('step 1/40  loss 3.950  1.24k tok/s  988 MB  eta 0:39');
    expect(text).toContain('step 40/40');
    expect(text.split('\n').length).toBeLessThan(13);
    expect(text).toContain('trained 40 steps, 4k tokens in 0:40, loss 2.100: out');
  });

  it('says how far the better answers stand above the others', () => {
    const drawn = screen(false);
    const view = trainView(drawn.screen, false);
    const how = { margin: 0.3125, accuracy: 0.75 };
    view.event({ ...score, loss: 0.5, targets: 8, ...how });
    view.event({ ...step(1), ...how });
    view.end({ ...result, loss: 0.6, ...how });
    const text = drawn.text();
    expect(text).toContain(
      'held-out rows before training: loss 0.500, margin 0.313, accuracy 75% (8 rows)',
    );
    expect(text).toContain('step 1/40  loss 3.950  margin 0.313  accuracy 75%  1.24k tok/s');
    expect(text).toContain('loss 0.600, margin 0.313, accuracy 75%: out');
  });

  it('draws a chart on a terminal that it wipes before drawing again', () => {
    const text = play(true, false);
    // The last picture: chart, bar, closing line; nothing wider than the terminal.
    const last = text.slice(text.lastIndexOf('\x1b[0J') + '\x1b[0J'.length).split('\n');
    expect(last.filter((line) => line.includes('┤'))).toHaveLength(8);
    expect(last.some((line) => line.includes('━') && line.includes('100%'))).toBe(true);
    for (const line of last.filter((l) => !l.startsWith('trained'))) {
      expect(line.length).toBeLessThan(80);
    }
    expect(text).toContain('\x1b[9A\x1b[0J');
    expect(text).toContain('saved out after step 39\n  3.9');
  });

  it('says both executions of a validation, and warnings', () => {
    const drawn = screen(false);
    const view = trainView(drawn.screen, false);
    view.event({ ...start, processes: 2 });
    const both = { segmented: Math.log(20), full: Math.log(18) };
    view.event({ ...score, when: 'during', step: 50, ...both });
    view.event({ event: 'warning', code: 'LS_TRAIN_SPIKE', step: 51, message: 'loss 9 at 51' });
    expect(drawn.text()).toContain('40 steps, 2 processes');
    expect(drawn.text()).toContain('after step 50: segmented perplexity 20.00, 2.996 nats/token');
    expect(drawn.text()).toContain('full attention perplexity 18.00');
    expect(drawn.text()).toContain('warning LS_TRAIN_SPIKE: loss 9 at 51');
  });

  it('says how far recall documents are written', () => {
    const drawn = screen(false);
    const facts = { file: '/cache/recall/a.jsonl', documents: 0, tokens: 0 };
    const view = trainView(drawn.screen, false);
    view.event({ event: 'data', stage: 'writing', done: 30_000, total: 120_000, ...facts });
    expect(drawn.text()).toContain('writing recall documents: 25%, 30k of 120k tokens');
  });

  it('says how far the texts are read, on one line of a terminal that is written over', () => {
    const facts = { file: '/texts/wiki.jsonl', total: 2e9, documents: 12, tokens: 34_567 };
    for (const isTTY of [true, false]) {
      const drawn = screen(isTTY);
      const view = trainView(drawn.screen, false);
      view.event({ event: 'data', stage: 'tokenizing', done: 5e8, ...facts });
      view.event({ event: 'data', stage: 'tokenizing', done: 1e9, ...facts });
      view.event(start);
      const lines = drawn.text().split('\n');
      expect(lines[0]).toContain('tokenizing wiki.jsonl: 25%');
      expect(lines[0]).toContain('34.6k tokens in 12 documents');
      // A pipe gets a line every few seconds, a terminal each in the place of the one before.
      expect(lines.filter((line) => line.includes('50%'))).toHaveLength(isTTY ? 1 : 0);
      expect(drawn.text().split('\x1b[1A\x1b[0J')).toHaveLength(isTTY ? 3 : 1);
    }
  });

  it('fits a narrow terminal and says how to resume after a stop', () => {
    const text = play(true, false, { ...result, stopped: true, step: 7 }, 40);
    expect(text).toContain('stopped after 7 steps');
    expect(text).toContain('--resume');
    const last = text.slice(text.lastIndexOf('\x1b[0J') + '\x1b[0J'.length).split('\n');
    for (const line of last.filter((l) => !l.startsWith('stopped'))) {
      expect(line.length).toBeLessThan(40);
    }
  });
});
