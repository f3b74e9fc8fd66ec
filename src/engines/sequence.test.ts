import { describe, expect, it } from 'vitest';
import type { EngineSession, StepOptions, StepResult } from './engine.ts';
import { type GenerateEvent, type GenerateRequest, generate } from './generate.ts';
import { type BoundarySource, Sequence } from './sequence.ts';

const vocabulary = 40;

/** A session whose best next token is one more than the last; it records its steps. */
class Counting implements EngineSession {
  readonly id = 'counting';
  readonly steps: { tokens: number[]; options: StepOptions }[] = [];
  closed = 0;
  /** Resolves steps by hand where set. */
  hold: Promise<void> | null = null;
  #position = 0;

  async step(tokens: ArrayLike<number>, options: StepOptions): Promise<StepResult> {
    this.steps.push({ tokens: Array.from(tokens), options });
    await this.hold;
    this.#position += tokens.length;
    const rows = { none: 0, last: 1, all: tokens.length }[options.rows];
    const logits = new Float32Array(rows * vocabulary);
    for (let row = 0; row < rows; row++) {
      const last = tokens[tokens.length - rows + row] as number;
      logits[row * vocabulary + ((last + 1) % vocabulary)] = 9;
    }
    const boundary = options.close ? { at: this.#position, retrieved: [] } : null;
    return { logits, rows, boundary };
  }
  async replaceRetrieved(): Promise<void> {}
  async memory(): Promise<never> {
    throw new Error('not asked for');
  }
  async fork(): Promise<never> {
    throw new Error('not asked for');
  }
  async close(): Promise<void> {
    this.closed++;
  }
}

/** Cuts every `size` tokens. */
function every(size: number): BoundarySource & { closed: boolean } {
  let position = 0;
  return {
    closed: false,
    push: () => ++position % size === 0,
    pushMany(tokens) {
      const cuts: number[] = [];
      for (let i = 0; i < tokens.length; i++) if (this.push(0)) cuts.push(position);
      return cuts;
    },
    close() {
      this.closed = true;
    },
  };
}

const count = (length: number, from = 0): number[] =>
  Array.from({ length }, (_, i) => (from + i) % vocabulary);

describe('Sequence', () => {
  it('closes segments where the policy cuts, and asks for the last logits alone', async () => {
    const session = new Counting();
    const source = every(4);
    const sequence = new Sequence(session, source);
    const boundaries: number[] = [];
    const logits = await sequence.feed(count(10), { onBoundary: ({ at }) => boundaries.push(at) });
    expect(boundaries).toEqual([4, 8]);
    expect(logits.indexOf(9)).toBe(10);
    expect(
      session.steps.map(({ tokens, options }) => [tokens.length, options.rows, options.close]),
    ).toEqual([
      [4, 'none', true],
      [4, 'none', true],
      [2, 'last', false],
    ]);
    await sequence.feed([10]);
    await sequence.feed([11], { onBoundary: ({ at }) => boundaries.push(at) });
    expect(boundaries).toEqual([4, 8, 12]);
    expect(sequence.position).toBe(12);
    await sequence.close();
    expect([session.closed, source.closed]).toEqual([1, true]);
  });

  it('runs long segments in several steps, and gives every row on request', async () => {
    const session = new Counting();
    const sequence = new Sequence(session, every(1200));
    const froms: number[] = [];
    let rows = 0;
    for await (const ran of sequence.run(count(1300), { rows: 'all' })) {
      froms.push(ran.from);
      rows += ran.rows;
    }
    expect(froms).toEqual([0, 512, 1024, 1200]);
    expect(rows).toBe(1300);
  });

  it('gives nothing for no tokens', async () => {
    const session = new Counting();
    expect(await new Sequence(session, every(4)).feed([])).toHaveLength(0);
    expect(session.steps).toEqual([]);
  });

  it('does not wait for a step once aborted', async () => {
    const session = new Counting();
    session.hold = new Promise(() => {});
    const controller = new AbortController();
    const fed = new Sequence(session, every(4)).feed(count(10), { signal: controller.signal });
    controller.abort(new Error('gone'));
    await expect(fed).rejects.toThrow('gone');
    expect(session.steps).toHaveLength(1);
  });
});

/** Token 0 is `a`, 1 is `b`, ...; from 26 on, digits. One token late, as real decoders may be. */
function letters(): { push(id: number): string; end(): string } {
  let late = '';
  const text = (id: number): string => (id < 26 ? String.fromCharCode(97 + id) : `${id - 26}`);
  return {
    push(id) {
      const out = late;
      late = text(id);
      return out;
    },
    end() {
      const out = late;
      late = '';
      return out;
    },
  };
}

async function run(request: Partial<GenerateRequest>, session = new Counting()) {
  const events: GenerateEvent[] = [];
  const sequence = new Sequence(session, every(4));
  const full = { prompt: [0, 1], maxTokens: 8, temperature: 0, ...request };
  for await (const event of generate(sequence, full, letters())) events.push(event);
  const text = events.map((event) => (event.type === 'ran' ? '' : event.text)).join('');
  const tokens = events.flatMap((event) => (event.type === 'token' ? [event.id] : []));
  return { events, text, tokens, end: events.at(-1) };
}

describe('generate', () => {
  it('goes on to maxTokens, and gives back all text', async () => {
    const { text, tokens, end } = await run({});
    expect(tokens).toEqual(count(8, 2));
    expect(text).toBe('cdefghij');
    expect(end).toMatchObject({ type: 'end', reason: 'length' });
  });

  it('tells boundaries of prompt and answer, and does not run the last token', async () => {
    const session = new Counting();
    const { events } = await run({ prompt: count(5) }, session);
    const ran = events.flatMap((event) => (event.type === 'ran' ? [event] : []));
    expect(ran.map(({ from, prompt, boundary }) => [from, prompt, boundary?.at ?? null])).toEqual([
      [0, true, 4],
      [4, true, null],
      [5, false, null],
      [6, false, null],
      [7, false, 8],
      [8, false, null],
      [9, false, null],
      [10, false, null],
      [11, false, 12],
    ]);
    expect(session.steps.at(-1)?.tokens).toEqual([11]);
  });

  it('ends before a stop string that spans tokens, and lets false starts through', async () => {
    expect(await run({ stop: ['gx', 'fgh'] })).toMatchObject({
      text: 'cde',
      end: { reason: 'stop' },
    });
    expect((await run({ stop: ['ijx', 'efx'] })).text).toBe('cdefghij');
  });

  it('never shows a part of a stop string', async () => {
    const shown: string[] = [];
    const { events } = await run({ stop: ['efgh'] });
    for (const event of events) if (event.type === 'token') shown.push(event.text);
    expect(shown.join('')).toBe('cd');
  });

  it('finds a stop string that only the end of the decoder completes', async () => {
    expect(await run({ stop: ['j'] })).toMatchObject({ text: 'cdefghi', end: { reason: 'stop' } });
  });

  it('ends with a stop id, whose text it leaves out', async () => {
    const { text, tokens, end } = await run({ stopIds: [6] });
    expect([text, tokens, end]).toMatchObject(['cdef', [2, 3, 4, 5, 6], { reason: 'stop' }]);
  });

  it('runs the prompt alone for no tokens', async () => {
    const { events } = await run({ maxTokens: 0 });
    expect(events.slice(0, -1).every((event) => event.type === 'ran' && event.prompt)).toBe(true);
    expect(events.slice(-1)).toEqual([{ type: 'end', reason: 'length', text: '' }]);
  });

  it('throws the reason of an abort', async () => {
    const controller = new AbortController();
    controller.abort(new Error('left'));
    await expect(run({ signal: controller.signal })).rejects.toThrow('left');
  });

  it('refuses an empty prompt', async () => {
    await expect(run({ prompt: [] })).rejects.toThrow('at least one token');
  });
});
