import { describe, expect, it } from 'vitest';
import { lossSvg } from './loss-svg.ts';
import { lossChart } from './loss-terminal.ts';
import { clock, downsample, short, smooth, ticks } from './scale.ts';

const curve = (length: number): { step: number; loss: number }[] =>
  Array.from({ length }, (_, i) => ({ step: i + 1, loss: 4 - Math.log10(i + 1) }));

/** Heights between which lines are drawn: the grid's first and last. */
function plotOf(svg: string): [number, number] {
  const lines = [...svg.matchAll(/class="grid" [^>]*y1="([\d.]+)"/g)].map((match) =>
    Number(match[1]),
  );
  return [Math.min(...lines), Math.max(...lines)];
}

describe('scales', () => {
  it('averages the last values', () => {
    expect(smooth([1, 3, 5, 7], 2)).toEqual([1, 2, 4, 6]);
  });

  it('makes round ticks that hold the range, also a range of nothing', () => {
    expect(ticks(2.93, 3.41, 5)).toEqual([2.9, 3, 3.1, 3.2, 3.3, 3.4, 3.5]);
    for (const [low, high] of [
      [3, 3],
      [0, 0],
      [-1.5, 700],
      [0.001, 0.0012],
    ] as const) {
      const made = ticks(low, high, 5);
      expect(made[0]).toBeLessThanOrEqual(low);
      expect(made.at(-1)).toBeGreaterThanOrEqual(high);
      expect(made.length).toBeLessThan(12);
      expect(new Set(made).size).toBe(made.length);
    }
  });

  it('keeps the highest point of a long curve', () => {
    const points = curve(50_000);
    points[31_234] = { step: 31_235, loss: 99 };
    const thinned = downsample(points, 1000);
    expect(thinned.length).toBeLessThanOrEqual(1000);
    expect(Math.max(...thinned.map((point) => point.loss))).toBe(99);
    expect(thinned.map((point) => point.step)).toEqual(
      thinned.map((point) => point.step).toSorted((a, b) => a - b),
    );
  });

  it('writes numbers for people', () => {
    expect([short(999), short(1234), short(1_234_567)]).toEqual(['999', '1.23k', '1.23M']);
    expect([clock(5), clock(65.4), clock(3723)]).toEqual(['0:05', '1:05', '1:02:03']);
  });
});

describe('lossSvg', () => {
  const points = curve(200);
  const svg = lossSvg(points, { title: 'A <b> & "c"', subtitle: 'tiny' });

  it('has a title, axes with units, and every tick inside the picture', () => {
    expect(svg).toContain('A &lt;b&gt; &amp; &quot;c&quot;');
    expect(svg).toContain('loss (nats per token)');
    expect(svg).toContain('optimizer step');
    expect(svg).toContain('mean of 10 steps');
    const places = [...svg.matchAll(/ x="(-?[\d.]+)"/g)].map(([, x]) => Number(x));
    // Title, summary, legend, names of the axes, and a number at each tick.
    expect(places).toHaveLength(17);
    expect(Math.min(...places)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...places)).toBeLessThanOrEqual(640);
  });

  it('draws the curve where its values are', () => {
    const raw = /class="line segment faint" points="([^"]+)"/.exec(svg)?.[1] ?? '';
    const drawn = raw.split(' ').map((pair) => pair.split(',').map(Number));
    expect(drawn).toHaveLength(points.length);
    const heights = drawn.map((pair) => pair[1] as number);
    // Losses fall, so y grows downwards all the way, within the axes.
    expect(heights).toEqual(heights.toSorted((a, b) => a - b));
    const [top, bottom] = plotOf(svg);
    expect(Math.min(...heights)).toBeGreaterThanOrEqual(top);
    expect(Math.max(...heights)).toBeLessThanOrEqual(bottom);
  });

  it.each([0, 1, 2])('draws %i steps', (length) => {
    const few = lossSvg(curve(length), { title: 't' });
    expect(few).not.toMatch(/NaN|undefined|Infinity/);
    expect(few.includes('<polyline')).toBe(length > 0);
  });
});

describe('lossChart', () => {
  it('falls from the upper left to the lower right, in as many lines as asked', () => {
    const lines = lossChart(curve(100), 40, 5);
    expect(lines).toHaveLength(5);
    expect(lines[0]).toMatch(/^ +4\.00 ┤/);
    expect(lines.every((line) => line.length <= 40)).toBe(true);
    const inked = (line: string): number => line.search(/[\u2801-\u28ff]/);
    expect(inked(lines[0] as string)).toBeLessThan(inked(lines[4] as string));
  });

  it('draws nothing before there is a line to draw', () => {
    expect(lossChart(curve(1), 40, 5)).toEqual([]);
  });

  it('draws a constant curve', () => {
    const flat = lossChart(
      [1, 2, 3].map((step) => ({ step, loss: 2 })),
      40,
      4,
    );
    expect(flat.join('')).not.toMatch(/NaN/);
  });
});
