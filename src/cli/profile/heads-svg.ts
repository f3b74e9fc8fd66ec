// Scores of all KV heads as a standalone SVG: layers from left to right, heads from top to bottom.
import { escapeXml } from '../drawing/escape-xml.ts';
import { breakLines, heading, textLines, wide } from '../drawing/text-lines.ts';
import { pictureCss, standaloneStyle } from '../drawing/tokens.ts';
import type { HeadsFile, Method } from './heads-file.ts';

const SIDE = 20;
const LEFT = 64;

const says: Readonly<Record<Method, string>> = {
  gates: 'gate (0 local, 1 long)',
  recall: 'copy mass: attention of answers to the needle',
  mixed: 'rank by recall or gates, whichever is higher (1: first)',
  mass: 'attention mass beyond the window',
  first: 'no scores: the first layers',
  even: 'no scores: layers evenly spaced',
};

const style = standaloneStyle(`${pictureCss}
.bed { fill: var(--inset); stroke: var(--line); stroke-width: 0.5; }
.cell { fill: var(--local); }
.long { fill: none; stroke: var(--long); stroke-width: 2.5; }
.cell.chosen { fill: var(--long); }
`);

/**
 * Draw what was measured and what was chosen.
 *
 * @returns a complete SVG document: a cell for each KV head of each layer, the stronger the higher
 *   its score; long heads are framed
 */
export function headsSvg(file: HeadsFile): string {
  const { scores } = file;
  const { long } = file.heads;
  const layers = long.length;
  const heads = scores?.[0]?.length ?? Math.max(...long.flat(), 0) + 1;
  const cell = Math.max(12, Math.min(26, Math.floor(1100 / layers)));
  const width = Math.max(wide, LEFT + layers * cell + SIDE);
  const count = long.flat().length;
  const { name } = file.model;
  const subtitle = `${name} · method ${file.method} · ${count} long heads in ${file.retrieval.layers.length} layers`;
  const head = heading('Long heads', subtitle, { x: SIDE, width: width - 2 * SIDE });
  const highest = scores === null ? 1 : Math.max(...scores.flat());
  // A gate has its own scale; a share of attention is shown against the largest.
  const full = file.method === 'gates' || file.method === 'mixed' ? 1 : highest || 1;
  const keys = legend(
    scores === null ? null : full,
    says[file.method],
    highest,
    head.bottom + 4,
    width,
  );
  const top = keys.bottom + 34;
  const bottom = top + heads * cell;
  const height = bottom + 60;
  const x = (layer: number): number => LEFT + layer * cell;
  const y = (head: number): number => top + head * cell;
  const square = (layer: number, head: number): string => {
    const at = `x="${x(layer) + 1}" y="${y(head) + 1}" width="${cell - 2}" height="${cell - 2}" rx="2"`;
    const score = scores?.[layer]?.[head];
    const shade = score === undefined ? 0 : Math.max(0, score / full);
    const framed = long[layer]?.includes(head) === true;
    const title = `layer ${layer}, head ${head}${score === undefined ? '' : `: ${Number(score.toPrecision(3))}`}${framed ? ', long' : ''}`;
    return (
      `<g><title>${title}</title><rect class="bed" ${at}/>` +
      `<rect class="cell${framed ? ' chosen' : ''}" fill-opacity="${shade.toFixed(3)}" ${at}/>` +
      `${framed ? `<rect class="long" ${at}/>` : ''}</g>`
    );
  };
  const cells = long.flatMap((_, layer) =>
    Array.from({ length: heads }, (_, h) => square(layer, h)),
  );
  const everyLayer = cell < 20 ? 4 : 2;
  const layerLabels = long
    .map((_, layer) => layer)
    .filter((layer) => layer % everyLayer === 0)
    .map((layer) => label(x(layer) + cell / 2, bottom + 18, 'middle', layer));
  const everyHead = heads > 12 ? 4 : 1;
  const headLabels = Array.from({ length: heads }, (_, head) => head)
    .filter((head) => head % everyHead === 0)
    .map((head) => label(LEFT - 8, y(head) + cell / 2 + 4, 'end', head));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(`Long heads: ${subtitle}`)}">
<style>${style}</style>
${head.svg}
${keys.svg}
${textLines(['KV head'], { x: SIDE, y: top - 8 })}
${cells.join('\n')}
${[...layerLabels, ...headLabels].join('\n')}
${textLines(['layer'], { x: LEFT + (layers * cell) / 2, y: bottom + 42, anchor: 'middle' })}
</svg>
`;
}

function label(x: number, y: number, anchor: 'middle' | 'end', value: number): string {
  return textLines([String(value)], { x, y, anchor, name: 'muted' });
}

/** What a frame means, and the strength of a cell: a ramp from 0 to the darkest. */
function legend(
  full: number | null,
  meaning: string,
  highest: number,
  y: number,
  width: number,
): { svg: string; bottom: number } {
  const key =
    `<rect class="bed" x="${SIDE}" y="${y}" width="16" height="14" rx="2"/><rect class="long" x="${SIDE}" y="${y}" width="16" height="14" rx="2"/>` +
    textLines(['long head: retrieves'], { x: SIDE + 26, y: y + 12, name: 'muted' });
  const number = (value: number): string => String(Number(value.toPrecision(3)));
  const range = full === null || full === highest ? '' : ` · highest ${number(highest)}`;
  const words = full === null ? meaning : `0 to ${number(full)}: ${meaning}${range}`;
  const steps =
    full === null
      ? []
      : [0, 0.25, 0.5, 0.75, 1].map((share, i) => {
          const at = `x="${SIDE + 18 * i}" y="${y + 24}" width="16" height="14" rx="2"`;
          return `<rect class="bed" ${at}/><rect class="cell" fill-opacity="${share}" ${at}/>`;
        });
  const left = SIDE + (steps.length === 0 ? 0 : 98);
  const lines = breakLines(words, width - SIDE - left);
  return {
    svg: `${key}${steps.join('')}${textLines(lines, { x: left, y: y + 36, name: 'muted' })}`,
    bottom: y + 24 + lines.length * 18,
  };
}
