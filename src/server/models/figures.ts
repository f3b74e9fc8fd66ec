// Figures of several engines as one text for Prometheus: each metric once, its samples by model.

/** What one model's engine tells, in Prometheus' text format. */
export interface ModelFigures {
  model: string;
  text: string;
}

interface Family {
  head: string[];
  samples: string[];
}

/** The texts as one, with the label `model` on each sample. */
export function joinFigures(all: readonly ModelFigures[]): string {
  const families = new Map<string, Family>();
  for (const { model, text } of all) {
    let family: Family = { head: [], samples: [] };
    for (const line of text.split('\n')) {
      const [, kind, name] = /^# (HELP|TYPE) (\S+)/.exec(line) ?? [];
      if (name !== undefined) {
        family = familyOf(families, name);
        if (!family.head.some((one) => one.startsWith(`# ${kind} `))) family.head.push(line);
      } else if (line !== '') {
        const bare = /^[\w:]+/.exec(line)?.[0] ?? '';
        // Of a histogram the samples have the family's name and an end.
        if (!family.head.some((one) => isOf(bare, one.split(' ')[2] ?? ''))) {
          family = familyOf(families, bare);
        }
        family.samples.push(withModel(line, model));
      }
    }
  }
  const lines = [...families.values()].flatMap(({ head, samples }) => [...head, ...samples, '']);
  return lines.join('\n');
}

function isOf(sample: string, family: string): boolean {
  if (!sample.startsWith(family)) return false;
  return ['', '_bucket', '_sum', '_count'].includes(sample.slice(family.length));
}

function familyOf(families: Map<string, Family>, name: string): Family {
  const found = families.get(name) ?? { head: [], samples: [] };
  families.set(name, found);
  return found;
}

function withModel(sample: string, model: string): string {
  const label = `model=${JSON.stringify(model)}`;
  const [, name = '', labels, rest = ''] = /^([\w:]+)(?:\{(.*)\})?( .*)$/.exec(sample) ?? [];
  return `${name}{${labels ? `${labels},${label}` : label}}${rest}`;
}
