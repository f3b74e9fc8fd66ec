// A plan as one HTML file, light and dark.
import { escapeXml } from '../drawing/escape-xml.ts';
import { htmlFile } from '../drawing/html-file.ts';
import { type MapHeading, type SegmentMap, type SegmentRow, thousands } from './segment-map.ts';

/** The page as text. */
export function segmentMapHtml(map: SegmentMap, heading: MapHeading): string {
  return htmlFile(
    `${heading.title}: ${thousands(map.closed)} segments`,
    style,
    `<a class="skip" href="#segments">Skip to the segments</a>
<header>
<h1>${escapeXml(heading.title)}</h1>
<p class="policy"><code>${escapeXml(heading.policy)}</code> <code>${escapeXml(heading.params)}</code></p>
${facts(map, heading)}
</header>
<main>
${charts(map, heading)}
<h2 id="segments">Segments</h2>
${map.tokens === 0 ? '<p>The text has no tokens: there is nothing to cut.</p>' : list(map, heading)}
</main>
<footer><p>Contract <code>${heading.digest}</code></p></footer>`,
  );
}

function facts(map: SegmentMap, heading: MapHeading): string {
  const rows: [string, string][] = [
    ['tokens', thousands(map.tokens)],
    ['closed segments', thousands(map.closed)],
    ['mean length', map.mean.toFixed(1)],
    ['shortest to longest', `${thousands(map.shortest)} to ${thousands(map.longest)}`],
    ['allowed', `${thousands(heading.min)} to ${thousands(heading.max)}`],
    ['at max', map.closed === 0 ? '0%' : `${Math.round((100 * map.atMax) / map.closed)}%`],
  ];
  if (heading.align > 1) rows.push(['align', String(heading.align)]);
  return `<dl>${rows.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join('')}</dl>`;
}

/** Lengths along the document, and how often each length occurs. */
function charts(map: SegmentMap, heading: MapHeading): string {
  if (map.closed === 0) return '';
  const alternate = map.curve.per === 1;
  const along = bars(map.curve.means, heading.max, alternate, (mean, at) => {
    const from = at * map.curve.per;
    const to = Math.min(map.closed, from + map.curve.per) - 1;
    return from === to
      ? `segment ${from}: ${Math.round(mean)} tokens`
      : `segments ${from} to ${to}: ${mean.toFixed(1)} tokens on average`;
  });
  const step = heading.max / map.histogram.length;
  const often = bars(map.histogram, Math.max(...map.histogram), false, (count, at) => {
    const from = Math.floor(at * step) + 1;
    const to = Math.max(from, Math.floor((at + 1) * step));
    return `${from} to ${to} tokens: ${thousands(count)} segments`;
  });
  return `<div class="charts">
<figure>${svg(along, `Lengths along the text, at most ${heading.max} tokens`)}
<figcaption>Length along the text</figcaption></figure>
<figure>${svg(often, `How often each length occurs, from 1 to ${heading.max} tokens`)}
<figcaption>How often each length occurs, 1 to ${thousands(heading.max)} tokens</figcaption></figure>
</div>`;
}

const chart = { width: 512, height: 96 };

function bars(
  values: number[],
  most: number,
  alternate: boolean,
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
        `<rect class="t${alternate ? at % 2 : 0}" x="${x}" y="${y}" width="${(width - gap).toFixed(2)}" height="${height.toFixed(2)}">` +
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
  const range = `tokens ${thousands(row.start)} to ${thousands(row.end)}`;
  const kind = row.open ? ', open' : length === heading.max ? ', at max' : '';
  return `<li id="s${row.index}" class="t${row.index % 2}">
<div class="label"><a href="#s${row.index}" aria-label="Segment ${row.index}">${row.index}</a>
<span>${thousands(length)} tokens${kind}</span><span class="range">${range}</span>
<i class="meter" style="--share:${share}%" aria-hidden="true"></i></div>
<p>${content(row)}</p></li>`;
}

function content(row: SegmentRow): string {
  if (row.text !== null) return escapeXml(row.text);
  if (row.last === '') return escapeXml(row.first);
  return `${escapeXml(row.first)}<span class="gap"> ... </span>${escapeXml(row.last)}`;
}

// Contrast of text on both tints is above 7:1 in both schemes.
const style = `
:root{color-scheme:light dark;--page:#fbfaf7;--ink:#1d1f24;--soft:#565b66;--line:#d9d6cd;
--a:#e3eef8;--b:#f6ead9;--abar:#2f6da8;--bbar:#b4701f}
@media (prefers-color-scheme:dark){:root{--page:#14161a;--ink:#e9e7e2;--soft:#a5abb8;--line:#343841;
--a:#1c2b3b;--b:#33281a;--abar:#6aaae6;--bbar:#e0a050}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:2rem 1.25rem 4rem;background:var(--page);color:var(--ink);
font:1rem/1.6 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{margin:0;font-size:1.75rem;line-height:1.2;overflow-wrap:anywhere}
h2{margin:2rem 0 .75rem;font-size:1.1rem}
code{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace;font-size:.875em;overflow-wrap:anywhere}
.policy{margin:.35rem 0 1.25rem;color:var(--soft)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:0}
dl div{border:1px solid var(--line);border-radius:.6rem;padding:.6rem .8rem}
dt{color:var(--soft);font-size:.8rem}
dd{margin:0;font-size:1.2rem;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:2fr 1fr;gap:1.25rem;margin-top:1.5rem}
@media (max-width:44rem){.charts{grid-template-columns:1fr}}
figure{margin:0}
svg{display:block;width:100%;height:6rem;border-bottom:1px solid var(--line)}
figcaption{color:var(--soft);font-size:.8rem;margin-top:.35rem}
rect.t0{fill:var(--abar)}rect.t1{fill:var(--bbar)}
ol{list-style:none;margin:0;padding:0;border:1px solid var(--line);border-radius:.6rem;overflow:hidden}
li{display:grid;grid-template-columns:11rem 1fr;scroll-margin-top:1rem}
li.t0{background:var(--a)}li.t1{background:var(--b)}
li:target{outline:3px solid var(--abar);outline-offset:-3px}
li p{margin:0;padding:.6rem .9rem;white-space:pre-wrap;overflow-wrap:anywhere;
font-family:ui-serif,Georgia,"Times New Roman",serif}
.label{display:flex;flex-direction:column;padding:.6rem .9rem;font-size:.8rem;line-height:1.4;
font-variant-numeric:tabular-nums;border-right:1px solid var(--line)}
.label a{font-weight:600;font-size:.95rem;color:inherit;text-underline-offset:.2em}
.range{color:var(--soft)}
.meter{display:block;height:.3rem;margin-top:.35rem;border-radius:.15rem;
background:linear-gradient(to right,var(--bar) var(--share),var(--line) var(--share))}
.t0 .meter{--bar:var(--abar)}.t1 .meter{--bar:var(--bbar)}
@media (max-width:44rem){li{grid-template-columns:1fr}.label{border:0;padding-bottom:0}}
.gap,.skipped{color:var(--soft)}
li.skipped{display:block;padding:.75rem;text-align:center}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
a:focus-visible{outline:3px solid var(--abar);outline-offset:2px}
footer{margin-top:1.5rem;color:var(--soft);font-size:.8rem}
@media print{body{max-width:none}li{break-inside:avoid}}
`;
