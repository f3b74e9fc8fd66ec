// A plan as one HTML file.
import type { LegendContract } from '../../server/page/legend.js';
import { escapeXml } from '../drawing/escape-xml.ts';
import { htmlFile } from '../drawing/html-file.ts';
import { type MapHeading, type SegmentMap, type SegmentRow, thousands } from './segment-map.ts';

/** The file as text. */
export function segmentMapHtml(
  map: SegmentMap,
  heading: MapHeading,
  contract: LegendContract,
): string {
  return htmlFile({
    title: `Plan of ${heading.title}`,
    subtitle: `${thousands(map.tokens)} tokens in ${thousands(map.closed)} closed segments`,
    model: heading.model,
    digest: heading.digest,
    contract,
    style,
    body: `<section class="card" aria-labelledby="lengths">
<div class="head"><h2 id="lengths">Lengths of segments</h2>
<span class="small">policy <code>${escapeXml(heading.policy)}</code> <code>${escapeXml(heading.params)}</code></span></div>
${facts(map, heading)}
${charts(map, heading)}
</section>
<section class="card" aria-labelledby="segments">
<div class="head"><h2 id="segments">Segments</h2><span class="small">Tokens are counted from 0; a range ends before its last number.</span></div>
${map.tokens === 0 ? '<p>The text has no tokens: there is nothing to cut.</p>' : list(map, heading)}
</section>`,
  });
}

function facts(map: SegmentMap, heading: MapHeading): string {
  const rows: [string, string][] = [
    ['tokens', thousands(map.tokens)],
    ['closed segments', thousands(map.closed)],
    ['allowed', `${thousands(heading.min)} to ${thousands(heading.max)} tokens`],
  ];
  if (map.closed > 0) {
    rows.push(
      ['mean length', `${map.mean.toFixed(1)} tokens`],
      ['shortest to longest', `${thousands(map.shortest)} to ${thousands(map.longest)} tokens`],
      ['of the greatest length', `${Math.round((100 * map.atMax) / map.closed)}%`],
    );
  }
  if (heading.align > 1) rows.push(['multiples of', `${heading.align} tokens`]);
  return `<dl class="facts">${rows.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join('')}</dl>`;
}

/** Lengths along the document, and how often each length occurs. */
function charts(map: SegmentMap, heading: MapHeading): string {
  if (map.closed === 0) return '';
  const { per, means } = map.curve;
  const along = bars(means, heading.max, (mean, at) => {
    const from = at * per;
    const to = Math.min(map.closed, from + per) - 1;
    return from === to
      ? `segment ${from}: ${Math.round(mean)} tokens`
      : `segments ${from} to ${to}: ${mean.toFixed(1)} tokens on average`;
  });
  const step = heading.max / map.histogram.length;
  const most = Math.max(...map.histogram);
  const often = bars(map.histogram, most, (count, at) => {
    const from = Math.floor(at * step) + 1;
    const to = Math.max(from, Math.floor((at + 1) * step));
    return `${from} to ${to} tokens: ${thousands(count)} segments`;
  });
  return `<div class="charts">
${chartOf({
  caption: per === 1 ? 'Length of each segment' : `Mean length of ${thousands(per)} segments`,
  label: `Lengths along the text, at most ${heading.max} tokens`,
  drawn: along,
  y: `${thousands(heading.max)} tokens`,
  x: ['segment 0', `segment ${thousands(map.closed - 1)}`],
})}
${chartOf({
  caption: 'How often each length occurs',
  label: `How often each length occurs, from 1 to ${heading.max} tokens`,
  drawn: often,
  y: `${thousands(most)} ${most === 1 ? 'segment' : 'segments'}`,
  x: ['1 token', `${thousands(heading.max)} tokens`],
})}
</div>`;
}

interface Chart {
  caption: string;
  /** Text alternative of the chart, for screen readers. */
  label: string;
  drawn: string;
  /** Where the tallest bar would end. */
  y: string;
  /** Labels of the left and the right end. */
  x: [string, string];
}

function chartOf({ caption, label, drawn, y, x }: Chart): string {
  return `<figure><figcaption>${caption}</figcaption>
<div class="ends"><span>${y}</span></div>${svg(drawn, label)}<div class="ends"><span>${x[0]}</span><span>${x[1]}</span></div></figure>`;
}

const chart = { width: 512, height: 96 };

function bars(
  values: number[],
  most: number,
  label: (value: number, at: number) => string,
): string {
  const width = chart.width / values.length;
  const gap = width > 3 ? 1 : 0;
  return values
    .map((value, at) => {
      const height = value === 0 ? 0 : Math.max(1.5, (chart.height * value) / Math.max(1, most));
      const x = (at * width).toFixed(2);
      const y = (chart.height - height).toFixed(2);
      return (
        `<rect x="${x}" y="${y}" width="${(width - gap).toFixed(2)}" height="${height.toFixed(2)}">` +
        `<title>${label(value, at)}</title></rect>`
      );
    })
    .join('');
}

function svg(content: string, label: string): string {
  return (
    `<svg role="img" aria-label="${escapeXml(label)}" viewBox="0 0 ${chart.width} ${chart.height}" ` +
    `preserveAspectRatio="none">${content}</svg>`
  );
}

function list(map: SegmentMap, heading: MapHeading): string {
  const skipped =
    map.skipped > 0
      ? `<li class="skipped">${thousands(map.skipped)} more segments are left out here.</li>`
      : '';
  const items = (rows: SegmentRow[]): string => rows.map((row) => item(row, heading)).join('\n');
  return `<ol>${items(map.head)}${skipped}${items(map.tail)}</ol>`;
}

function item(row: SegmentRow, heading: MapHeading): string {
  const length = row.end - row.start;
  const share = Math.min(100, (100 * length) / heading.max).toFixed(1);
  const kind = row.open ? ', open' : length === heading.max ? ', longest' : '';
  return `<li id="s${row.index}" class="seg-${row.index % 3}"><div class="label"><a href="#s${row.index}" aria-label="Segment ${row.index}">${row.index}</a>
<span class="length">${thousands(length)} tokens${kind}<i class="meter" style="--share:${share}%" aria-hidden="true"></i></span><span class="range">${thousands(row.start)} to ${thousands(row.end)}</span></div>
<p>${content(row)}</p></li>`;
}

function content(row: SegmentRow): string {
  if (row.text !== null) return escapeXml(row.text);
  if (row.last === '') return escapeXml(row.first);
  return `${escapeXml(row.first)}<span class="gap"> ... </span>${escapeXml(row.last)}`;
}

const style = `
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:var(--space-3) var(--space-5)}
.facts dt{color:var(--soft);font-size:var(--text-s)}
.facts dd{font-size:18px;font-weight:600;letter-spacing:-.01em}
.charts{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:var(--space-4) var(--space-6);margin-top:var(--space-5)}
figcaption{font-weight:600;font-size:14px}
.ends{display:flex;justify-content:space-between;gap:var(--space-3);color:var(--soft);font-size:12px}
figure svg{display:block;width:100%;height:96px;background:linear-gradient(var(--line),var(--line)) top/100% 1px no-repeat;border-bottom:1px solid var(--strong-line)}
figure rect{fill:var(--segment)}
ol{display:grid;gap:2px}
ol li{display:grid;grid-template-columns:330px minmax(0,1fr);border-radius:var(--radius-s);scroll-margin-top:var(--space-4)}
.seg-0{background:var(--seg-0)}
.seg-1{background:var(--seg-1)}
.seg-2{background:var(--seg-2)}
ol li:target{outline:2px solid var(--accent);outline-offset:-2px}
ol li p{padding:var(--space-2) var(--space-3);white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
.label{display:grid;grid-template-columns:44px 130px 1fr;gap:var(--space-3);align-items:start;padding:var(--space-2) 0 var(--space-2) var(--space-3);font-size:var(--text-s);line-height:23px}
.label a{font-weight:650;color:inherit;min-width:24px;min-height:24px}
.range{color:var(--soft);white-space:nowrap}
.meter{display:block;height:4px;border-radius:2px;margin-top:1px;
background:linear-gradient(to right,var(--segment) var(--share),var(--faint) var(--share))}
.gap,.skipped{color:var(--soft)}
ol li.skipped{display:block;padding:var(--space-3);text-align:center}
@media (max-width:760px){.facts{grid-template-columns:repeat(auto-fit,minmax(150px,1fr))}.charts,ol li{grid-template-columns:minmax(0,1fr)}
.label{grid-template-columns:max-content 1fr max-content;padding-right:var(--space-3)}.length{display:flex;gap:var(--space-2);align-items:center}.meter{flex:1;margin:0}ol li p{padding-top:0}}
@media print{ol li{break-inside:avoid}}
`;
