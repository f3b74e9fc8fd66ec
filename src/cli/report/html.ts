// A report as one HTML file, its pictures inside.
import { escapeXml } from '../drawing/escape-xml.ts';
import { htmlFile } from '../drawing/html-file.ts';
import { thousands } from '../plan/segment-map.ts';
import type { ReportData } from './data.ts';
import type { Figure, Section, Table } from './section.ts';

export function reportHtml(data: ReportData, sections: readonly Section[]): string {
  const title = `Report of ${data.name}`;
  return htmlFile(
    title,
    pageStyle,
    `<header>
<h1>${escapeXml(title)}</h1>
<p>${escapeXml(subtitle(data))}</p>
<nav aria-label="Sections"><ul>${sections.map(({ title: name }) => `<li><a href="#${slug(name)}">${escapeXml(name)}</a></li>`).join('')}</ul></nav>
</header>
<main>
${sections.map(sectionHtml).join('\n')}
</main>`,
  );
}

/** One line on what was measured. */
export function subtitle(data: ReportData): string {
  const { trained, digest } = data.contract;
  const how =
    trained.steps === 0
      ? 'untrained under its contract'
      : `trained for ${thousands(trained.steps)} steps (${thousands(trained.tokens)} tokens)`;
  return `${how}; contract ${digest.slice(0, 16)}…; measured on ${thousands(data.text.tokens)} tokens of ${data.text.file}`;
}

export function sectionHtml({ title, paragraphs, figures, tables }: Section): string {
  return `<section id="${slug(title)}">
<h2>${escapeXml(title)}</h2>
${paragraphs.map((text) => `<p>${escapeXml(text)}</p>`).join('\n')}
${figures.length === 0 ? '' : `<div class="figures">${figures.map(figure).join('\n')}</div>`}
${tables.map(table).join('\n')}
</section>`;
}

function figure({ alt, svg }: Figure): string {
  const data = Buffer.from(svg, 'utf8').toString('base64');
  return `<figure><img alt="${escapeXml(alt)}" src="data:image/svg+xml;base64,${data}"></figure>`;
}

function table({ caption, head, rows }: Table): string {
  const cells = (row: readonly string[]): string =>
    row
      .map((cell, i) =>
        i === 0 ? `<th scope="row">${escapeXml(cell)}</th>` : `<td>${escapeXml(cell)}</td>`,
      )
      .join('');
  const header = head.every((cell) => cell === '')
    ? ''
    : `<thead><tr>${head.map((cell) => (cell === '' ? '<td></td>' : `<th scope="col">${escapeXml(cell)}</th>`)).join('')}</tr></thead>`;
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escapeXml(caption)}"><table>
<caption>${escapeXml(caption)}</caption>${header}
<tbody>${rows.map((row) => `<tr>${cells(row)}</tr>`).join('')}</tbody>
</table></div>`;
}

function slug(title: string): string {
  return title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

export const pageStyle = `
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1d2733;--soft:#51606f;--line:#d8dee5;--link:#1f5fa8}
@media (prefers-color-scheme:dark){:root{--page:#0c1116;--card:#12181f;--ink:#e6edf3;--soft:#9aa7b4;--line:#26303a;--link:#6fb1ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:2rem 1.25rem 4rem;background:var(--page);color:var(--ink);
font:1rem/1.6 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{margin:0;font-size:1.75rem;line-height:1.2;overflow-wrap:anywhere}
h2{margin:0 0 .5rem;font-size:1.25rem}
header p{margin:.35rem 0 1rem;color:var(--soft);overflow-wrap:anywhere}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:0;padding:0}
a{color:var(--link)}
a:focus-visible,.scroll:focus-visible{outline:3px solid var(--link);outline-offset:2px}
section{margin-top:2rem;padding:1.5rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem}
section p{max-width:70ch;margin:0 0 1rem}
.figures{display:grid;grid-template-columns:minmax(0,56rem);gap:1rem}
figure{margin:0}
img{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:.5rem}
.scroll{overflow-x:auto;margin-top:1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.35rem}
th,td{padding:.35rem .75rem;border-top:1px solid var(--line);text-align:right;white-space:nowrap}
thead td{border-top:0}
thead th{border-top:0;color:var(--soft);font-weight:600}
tbody th{text-align:left;font-weight:500}
#training th,#training td,#contract td{text-align:left}
#training td,#contract td{white-space:normal;overflow-wrap:anywhere}
@media print{section{break-inside:avoid}}
`;
