import { describe, expect, it } from 'vitest';
import { layoutOf } from './layout.ts';
import { type RawRows, SequenceState } from './sequence.ts';

const dim = 8;
const shape = { layers: 3, queryHeads: 4, kvHeads: 2, headDim: dim };
const rotation = { inverseFrequencies: [1, 0.1, 0.01, 0.001].map(Math.fround), factor: 1.25 };

const layout = (changes: object = {}) =>
  layoutOf(
    {
      segment: { min: 1, max: 12, align: 1 },
      carry: { size: 6, sinks: 3 },
      retrieval: { size: 5, recipe: 'anchors', layers: [1] },
      heads: { long: [[0, 1], [1], []] },
      ...changes,
    },
    shape,
  );

/** A raw row of a token: distinct in every layer, head and part. */
function raw(token: number, layer: number, head: number, part: number): Float32Array {
  return Float32Array.from({ length: dim }, (_, d) =>
    Math.sin(token * 7.3 + layer * 1.7 + head * 3.1 + part * 5.9 + d),
  );
}

function rotated(row: Float32Array, position: number): Float32Array {
  const out = new Float32Array(dim);
  for (let i = 0; i < dim / 2; i++) {
    const angle = position * (rotation.inverseFrequencies[i] as number);
    const cos = Math.cos(angle) * rotation.factor;
    const sin = Math.sin(angle) * rotation.factor;
    const [x, y] = [row[i] as number, row[i + dim / 2] as number];
    out[i] = x * cos - y * sin;
    out[i + dim / 2] = y * cos + x * sin;
  }
  return out;
}

/** Heads of a group, as the model numbers them. */
function headsOf(layer: number, kind: string): number[] {
  const long = [[0, 1], [1], []][layer] as number[];
  return kind === 'long' ? long : [0, 1].filter((head) => !long.includes(head));
}

/** Does what the graph does: writes the tokens' rows and gives raw queries and keys. */
function step(state: SequenceState, tokens: number): void {
  state.prepare(tokens);
  const { position, openLength } = state;
  for (const { group, buffer, prefix } of state.groups) {
    headsOf(group.layer, group.kind).forEach((head, h) => {
      for (let i = 0; i < tokens; i++) {
        const at = buffer.offset(h, prefix + openLength + i);
        buffer.keys.set(rotated(raw(position + i, group.layer, head, 0), position + i), at);
        buffer.values.set(raw(position + i, group.layer, head, 1), at);
      }
    });
  }
  state.advance(tokens, ({ layer }): RawRows => {
    const heads = headsOf(layer, 'long');
    const keys = new Float32Array(tokens * heads.length * dim);
    const queries = new Float32Array(2 * keys.length);
    for (let i = 0; i < tokens; i++) {
      heads.forEach((head, h) => {
        keys.set(raw(position + i, layer, head, 0), (i * heads.length + h) * dim);
        for (const j of [0, 1]) {
          const at = (i * heads.length * 2 + h * 2 + j) * dim;
          queries.set(raw(position + i, layer, head, 2 + j), at);
        }
      });
    }
    return { queries, keys };
  });
}

/** Every group's prefix rows must be those of the tokens that SEMANTICS.md 2 names. */
function expectPrefix(state: SequenceState, retrieved: Map<number, Int32Array[]>): void {
  const { sinks, carry } = state.layout;
  const start = state.position;
  for (const { group, buffer, prefix } of state.groups) {
    headsOf(group.layer, group.kind).forEach((head, h) => {
      const tokens = Array.from({ length: Math.min(sinks, start) }, (_, token) => token);
      if (group.prefix === 'local') {
        for (let t = Math.max(sinks, start - carry); t < start; t++) tokens.push(t);
      } else if (group.prefix === 'long') {
        for (const p of retrieved.get(group.layer)?.[h] ?? []) tokens.push(p + sinks);
      }
      expect(prefix).toBe(tokens.length);
      tokens.forEach((token, row) => {
        const at = buffer.offset(h, row);
        const key = rotated(raw(token, group.layer, head, 0), start - prefix + row);
        const value = raw(token, group.layer, head, 1);
        for (let d = 0; d < dim; d++) {
          expect(Math.abs((buffer.keys[at + d] as number) - (key[d] as number))).toBeLessThan(1e-6);
          expect(buffer.values[at + d]).toBe(value[d]);
        }
      });
    });
  }
}

const close = (state: SequenceState): Map<number, Int32Array[]> =>
  new Map(state.close().map(({ layer, positions }) => [layer, positions]));

/** Bytes of all arrays a state refers to, found by walking over it. */
function heldBytes(state: SequenceState): number {
  return state.groups.reduce((sum, group) => {
    const { sinks, carry, pool, retrieved, open } = group.memory();
    expect(group.buffer.bytes).toBe(group.buffer.keys.byteLength * 2);
    return sum + sinks + carry + pool + retrieved + open;
  }, 0);
}

describe('SequenceState', () => {
  it.each([
    ['as configured', {}, [12, 5, 7, 12, 12, 1, 9]],
    ['segments shorter than the sinks', {}, [1, 1, 2, 12, 3]],
    ['a carry beyond the segment', { carry: { size: 20, sinks: 3 } }, [4, 4, 12, 2, 12, 12]],
    ['no sinks', { carry: { size: 4, sinks: 0 } }, [12, 3, 3, 12]],
    ['no carry', { carry: { size: 0, sinks: 3 } }, [2, 12, 12]],
    ['topk', { retrieval: { size: 5, recipe: 'topk', layers: [0, 1] } }, [12, 12, 6, 12]],
  ] as const)('makes prefixes of the right rows: %s', (_, changes, segments) => {
    const state = new SequenceState(layout(changes), rotation);
    for (const length of segments) {
      const half = Math.ceil(length / 2);
      step(state, half);
      if (length > half) step(state, length - half);
      const retrieved = close(state);
      expectPrefix(state, retrieved);
      const pool = Math.max(0, state.position - state.layout.sinks);
      for (const lists of retrieved.values()) {
        for (const list of lists) expect(list).toHaveLength(Math.min(5, pool));
      }
    }
  });

  it('continues from replaced positions, and only at a fresh boundary', () => {
    const state = new SequenceState(layout(), rotation);
    const replace = (positions: number[]) =>
      state.replaceRetrieved([{ layer: 1, positions: [Int32Array.from(positions)] }]);
    expect(() => replace([])).toThrow('fresh boundary');
    step(state, 12);
    close(state);
    const selected = [0, 2, 4, 6, 8];
    replace(selected);
    expectPrefix(state, new Map([[1, [Int32Array.from(selected)]]]));
    expect(() => replace([0, 1])).toThrow('5 pool positions in 0..8');
    expect(() => replace([0, 1, 2, 3, 9])).toThrow('5 pool positions in 0..8');
    step(state, 1);
    expect(() => replace(selected)).toThrow('fresh boundary');
  });

  it('forks into independent sequences that share full pages', () => {
    const state = new SequenceState(layout(), rotation);
    for (let i = 0; i < 25; i++) {
      step(state, 11);
      close(state);
    }
    step(state, 5);
    const fork = state.fork();
    step(state, 4);
    const own = close(state);
    step(fork, 4);
    const forked = close(fork);
    expect(forked).toEqual(own);
    expectPrefix(fork, forked);
    expect(fork.memory()).toEqual(state.memory());
  });

  it('holds bounded memory but for the pool, and accounts for all of it', () => {
    const state = new SequenceState(layout(), rotation);
    const rest: number[] = [];
    for (let i = 0; i < 40; i++) {
      step(state, 12);
      close(state);
      const { total, pool } = state.memory();
      expect(total).toBe(heldBytes(state));
      rest.push(total - pool);
    }
    expect(new Set(rest.slice(3)).size).toBe(1);
    // One long head of one layer: keys, values and a bound of each key, in pages of 256 tokens.
    expect(state.memory().pool).toBe(2 * 256 * (2 * dim + 1) * 4);
    expect(state.memory().fullAttention).toBe(480 * 3 * 2 * dim * 4 * 2);
  });

  it('refuses more tokens than the segment takes, and closing an empty one', () => {
    const state = new SequenceState(layout(), rotation);
    expect(() => state.close()).toThrow('tokens in the segment');
    step(state, 10);
    expect(() => state.prepare(3)).toThrow('at most 2 more tokens');
  });
});
