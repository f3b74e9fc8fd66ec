// Scores of all KV heads as a standalone SVG: layers from left to right, heads from top to bottom.
import { escapeXml } from '../drawing/escape-xml.ts';
import type { HeadsFile, Method } from './heads-file.ts';

const LEFT = 72;
const TOP = 92;
const LEAST_WIDTH = 560;

const says: Readonly<Record<Method, string>> = {
  gates: 'gate: 0 local, 1 long',
  recall: 'copy mass: attention of answers to the needle',
  mixed: 'rank by recall or gates, whichever is higher (1: first)',
  mass: 'attention mass beyond the window',
  first: 'no scores: the first layers',
  even: 'no scores: layers evenly spaced',
};

const style = `
  svg { background: #fff; color: #1d2733; font: 13px system-ui, sans-serif; }
  .title { font-size: 18px; font-weight: 600; }
  text { fill: currentColor; } text.muted { fill: #5c6b7a; }
  .cell { fill: #1f5fa8; } .bed { fill: #eef2f6; }
  .long { fill: none; stroke: #d9480f; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    svg { background: #12181f; color: #e6edf3; }
    text.muted { fill: #9aa7b4; } .cell { fill: #6fb1ff; } .bed { fill: #1d2630; }
    .long { stroke: #ff922b; }
  }`;

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
  const width = Math.max(LEAST_WIDTH, LEFT + layers * cell + 24);
  const bottom = TOP + heads * cell;
  const height = bottom + 88;
  const highest = scores === null ? 1 : Math.max(...scores.flat());
  // A gate has its own scale; a share of attention is shown against the largest.
  const full = file.method === 'gates' || file.method === 'mixed' ? 1 : highest || 1;
  const x = (layer: number): number => LEFT + layer * cell;
  const y = (head: number): number => TOP + head * cell;
  const count = long.flat().length;
  const subtitle = `${file.model.name} · method ${file.method} · ${count} long heads in ${file.retrieval.layers.length} layers`;
  const square = (layer: number, head: number): string => {
    const at = `x="${x(layer) + 1}" y="${y(head) + 1}" width="${cell - 2}" height="${cell - 2}"`;
    const score = scores?.[layer]?.[head];
    const shade = score === undefined ? 0 : Math.max(0, score / full);
    const framed = long[layer]?.includes(head) === true;
    const title = `layer ${layer}, head ${head}${score === undefined ? '' : `: ${Number(score.toPrecision(3))}`}${framed ? ', long' : ''}`;
    return (
      `<g><title>${title}</title><rect class="bed" ${at}/>` +
      `<rect class="cell" fill-opacity="${shade.toFixed(3)}" ${at}/>` +
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
<text class="title" x="${LEFT}" y="30">Which heads look back</text>
<text class="muted" x="${LEFT}" y="52">${escapeXml(subtitle)}</text>
${legend(scores === null ? null : full, says[file.method], highest)}
${cells.join('\n')}
${[...layerLabels, ...headLabels].join('\n')}
<text x="${LEFT + (layers * cell) / 2}" y="${bottom + 42}" text-anchor="middle">layer</text>
<text transform="translate(24 ${(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">KV head</text>
<g transform="translate(${LEFT} ${bottom + 62})"><rect class="bed" width="14" height="14"/><rect class="long" width="14" height="14"/><text class="muted" x="24" y="12">long: retrieves</text></g>
</svg>
`;
}

function label(x: number, y: number, anchor: string, value: number): string {
  return `<text class="muted" x="${x}" y="${y}" text-anchor="${anchor}">${value}</text>`;
}

/** What the strength of a cell means: a ramp from 0 to the darkest. */
function legend(full: number | null, meaning: string, highest: number): string {
  if (full === null) return `<text class="muted" x="${LEFT}" y="76">${meaning}</text>`;
  const number = (value: number): number => Number(value.toPrecision(3));
  const range = full === highest ? '' : ` · highest ${number(highest)}`;
  const steps = [0, 0.25, 0.5, 0.75, 1].map(
    (share, i) =>
      `<rect class="bed" x="${LEFT + 18 * i}" y="64" width="16" height="14"/>` +
      `<rect class="cell" fill-opacity="${share}" x="${LEFT + 18 * i}" y="64" width="16" height="14"/>`,
  );
  return `${steps.join('')}<text class="muted" x="${LEFT + 98}" y="76">0 to ${number(full)} · ${meaning}${range}</text>`;
}
