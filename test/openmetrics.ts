// Reads OpenMetrics' text (1.0.0) as strictly as its definition asks of a scraper.
import { expect } from 'vitest';

export interface OpenFamily {
  type: string;
  samples: string[];
}

/** Names of samples of a family, by its type. */
const ENDS: Record<string, readonly string[]> = {
  counter: ['_total', '_created'],
  histogram: ['_bucket', '_sum', '_count', '_created'],
  summary: ['', '_sum', '_count', '_created'],
};
const LABELS = '\\{(?:[a-zA-Z_]\\w*="(?:[^"\\\\\\n]|\\\\.)*",?)*\\}';
// Words of OpenMetrics' grammar are those in any case: prom-client writes Nan.
const NUMBER = '(?:[-+]?[\\d.]+(?:[eE][-+]?\\d+)?|[-+]Inf|[Nn]a[Nn])';
const SAMPLE = new RegExp(
  `^([a-zA-Z_:][\\w:]*)(?:${LABELS})? ${NUMBER}( # (${LABELS}) ${NUMBER}(?: [\\d.]+)?)?$`,
);

/** Its families by name; fails where the text is not valid. */
export function readOpenMetrics(text: string): Map<string, OpenFamily> {
  expect(text.endsWith('\n# EOF\n')).toBe(true);
  const families = new Map<string, OpenFamily>();
  let name = '';
  for (const line of text.slice(0, -'# EOF\n'.length).split('\n').slice(0, -1)) {
    const [, kind, of, words = ''] = /^# (HELP|TYPE|UNIT) (\S+) ?(.*)$/.exec(line) ?? [];
    if (of !== undefined) {
      // A family stands in one piece: what was left is not come back to.
      if (of !== name) expect(families.has(of), line).toBe(false);
      name = of;
      const family = families.get(of) ?? { type: 'unknown', samples: [] };
      families.set(of, family);
      expect(family.samples, line).toEqual([]);
      if (kind === 'TYPE') family.type = words;
      if (kind === 'HELP') expect(words, line).toMatch(/^(?:[^"\\]|\\.)*$/);
      continue;
    }
    const [, sample = '', exemplar, labels = ''] = SAMPLE.exec(line) ?? [];
    const family = families.get(name) as OpenFamily;
    const ends = ENDS[family.type] ?? [''];
    expect(
      ends.map((end) => `${name}${end}`),
      line,
    ).toContain(sample);
    if (exemplar !== undefined) {
      expect(sample, line).toMatch(/_(bucket|total)$/);
      expect(labels.replace(/[{}=",]/g, '').length, line).toBeLessThanOrEqual(128);
    }
    family.samples.push(line);
  }
  return families;
}
