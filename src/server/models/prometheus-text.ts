// Metrics of several engines as one text for Prometheus: each metric once, its samples by model.

/** What one model's engine tells, in Prometheus' text format (0.0.4). */
export interface ModelMetrics {
  model: string;
  text: string;
}

interface Family {
  name: string;
  /** Words behind `# HELP name`, escaped as in Prometheus' format. */
  help: string | null;
  /** What `# TYPE name` says. */
  type: string | null;
  samples: string[];
}

/** Ends of the samples of one family that has several. */
const ENDS = ['', '_bucket', '_sum', '_count'];

/** The texts as one, with the label `model` on each sample. */
export function joinPrometheus(all: readonly ModelMetrics[]): string {
  const lines = familiesOf(all).flatMap(({ name, help, type, samples }) => [
    ...(help === null ? [] : [`# HELP ${name} ${help}`]),
    ...(type === null ? [] : [`# TYPE ${name} ${type}`]),
    ...samples,
    '',
  ]);
  return lines.join('\n');
}

/**
 * The same in OpenMetrics' text (1.0.0), without its last line, `# EOF`. A counter's family loses `_total`, which its
 * samples keep; one without it has no type there, so that its samples keep their name. Times of creation
 * (`_created`) are left out: OpenMetrics does not allow them as separate gauges beside their counter.
 */
export function joinOpenMetrics(all: readonly ModelMetrics[]): string {
  const lines = familiesOf(all).flatMap(({ name, help, type, samples }) => {
    if (name.endsWith('_created')) return [];
    const counter = type === 'counter' && name.endsWith('_total');
    const family = counter ? name.slice(0, -'_total'.length) : name;
    const known = ['gauge', 'histogram', 'summary'].find((one) => one === type) ?? 'unknown';
    return [
      ...(help === null ? [] : [`# HELP ${family} ${help.replaceAll('"', '\\"')}`]),
      `# TYPE ${family} ${counter ? 'counter' : known}`,
      ...samples,
    ];
  });
  return lines.map((line) => `${line}\n`).join('');
}

function familiesOf(all: readonly ModelMetrics[]): Family[] {
  const families = new Map<string, Family>();
  for (const { model, text } of all) {
    let family: Family | null = null;
    for (const line of text.split('\n')) {
      const [, kind, name, words = ''] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? [];
      if (name !== undefined) {
        family = familyOf(families, name);
        if (kind === 'HELP') family.help ??= words;
        else family.type ??= words;
      } else if (line !== '') {
        const bare = /^[\w:]+/.exec(line)?.[0] ?? '';
        // Of a histogram the samples have the family's name and an end.
        if (family === null || !isOf(bare, family.name)) family = familyOf(families, bare);
        family.samples.push(withModel(line, model));
      }
    }
  }
  return [...families.values()];
}

function isOf(sample: string, family: string): boolean {
  return sample.startsWith(family) && ENDS.includes(sample.slice(family.length));
}

function familyOf(families: Map<string, Family>, name: string): Family {
  const found = families.get(name) ?? { name, help: null, type: null, samples: [] };
  families.set(name, found);
  return found;
}

function withModel(sample: string, model: string): string {
  const label = `model=${JSON.stringify(model)}`;
  const [, name = '', labels, rest = ''] = /^([\w:]+)(?:\{(.*)\})?( .*)$/.exec(sample) ?? [];
  return `${name}{${labels ? `${labels},${label}` : label}}${rest}`;
}
