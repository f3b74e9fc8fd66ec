// A report as one HTML file, its pictures inside.
import { escapeXml } from '../drawing/escape-xml.ts';
import { htmlFile } from '../drawing/html-file.ts';
import { thousands } from '../plan/segment-map.ts';
import type { ReportData } from './data.ts';
import type { Figure, Section, Table } from './section.ts';

export function reportHtml(data: ReportData, sections: readonly Section[]): string {
  const { contract } = data;
  return htmlFile({
    title: `Report of ${data.name}`,
    subtitle: `Measured on ${thousands(data.text.tokens)} tokens of ${data.text.file}`,
    model: data.name,
    digest: contract.digest,
    notes: [trainedText(data)],
    contract,
    style: sectionStyle,
    body: `<nav aria-label="Sections"><ul>${sections.map(({ title: name }) => `<li><a href="#${slug(name)}">${escapeXml(name)}</a></li>`).join('')}</ul></nav>
${sections.map(sectionHtml).join('\n')}`,
  });
}

function trainedText({ contract: { trained } }: ReportData): string {
  return trained.steps === 0
    ? 'untrained under its contract'
    : `trained for ${thousands(trained.steps)} steps (${thousands(trained.tokens)} tokens)`;
}

/** One line on what was measured. */
export function subtitle(data: ReportData): string {
  return `${trainedText(data)}; contract ${data.contract.digest.slice(0, 16)}…; measured on ${thousands(data.text.tokens)} tokens of ${data.text.file}`;
}

export function sectionHtml({ title, paragraphs, figures, tables }: Section): string {
  return `<section class="card" id="${slug(title)}" aria-label="${escapeXml(title)}">
<h2>${escapeXml(title)}</h2>
${paragraphs.map((text) => `<p>${escapeXml(text)}</p>`).join('\n')}
<div class="parts">${figures.map(figure).join('\n')}
<div class="tables">${tables.map(table).join('\n')}</div></div>
</section>`;
}

/** One picture for wide screens and one for phones, whose text would be too small otherwise. */
function figure({ alt, svg, narrow }: Figure): string {
  return `<figure><picture><source media="(max-width: 480px)" srcset="${dataUrl(narrow)}"><img alt="${escapeXml(alt)}" src="${dataUrl(svg)}"></picture></figure>`;
}

function dataUrl(svg: string): string {
  return `data:image/svg+xml;base64,${Buffer.from(svg, 'utf8').toString('base64')}`;
}

function table({ caption, head, rows, words }: Table): string {
  const cells = (row: readonly string[]): string =>
    row
      .map((cell, i) =>
        i === 0 ? `<th scope="row">${escapeXml(cell)}</th>` : `<td>${escapeXml(cell)}</td>`,
      )
      .join('');
  const header = head.every((cell) => cell === '')
    ? ''
    : `<thead><tr>${head.map((cell) => (cell === '' ? '<td></td>' : `<th scope="col">${escapeXml(cell)}</th>`)).join('')}</tr></thead>`;
  // A caption of the table would be as wide as the table, and scroll with it.
  return `<figure><figcaption>${escapeXml(caption)}</figcaption>
<div class="scroll" tabindex="0" role="region" aria-label="${escapeXml(caption)}"><table${words ? ' class="words"' : ''}>${header}
<tbody>${rows.map((row) => `<tr>${cells(row)}</tr>`).join('')}</tbody>
</table></div></figure>`;
}

function slug(title: string): string {
  return title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

export const sectionStyle = `
nav ul{display:flex;flex-wrap:wrap;gap:var(--space-1) var(--space-5);padding:var(--space-1) 0}
nav a{display:inline-block;padding:2px 0}
section h2{font-size:var(--text-l);letter-spacing:-.01em;margin-bottom:var(--space-2)}
section{scroll-margin-top:var(--space-4)}
section > p{max-width:76ch;margin-bottom:var(--space-3)}
.parts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,560px),1fr));gap:var(--space-4) var(--space-5);align-items:start}
img{display:block;width:100%;max-width:640px;height:auto;border:1px solid var(--line);border-radius:var(--radius-m)}
.tables{display:grid;grid-template-columns:minmax(0,1fr);gap:var(--space-5)}
.tables:empty{display:none}
.tables:only-child{grid-column:1/-1}
.scroll{overflow-x:auto;min-width:0;
background:linear-gradient(to right,var(--card) 30%,transparent) left/40px 100% no-repeat local,linear-gradient(to left,var(--card) 30%,transparent) right/40px 100% no-repeat local,
linear-gradient(to right,var(--faint),transparent) left/12px 100% no-repeat,linear-gradient(to left,var(--faint),transparent) right/12px 100% no-repeat}
table{border-collapse:collapse;width:100%;font-size:14px}
figcaption{color:var(--soft);font-size:var(--text-s);padding-bottom:var(--space-1)}
th,td{padding:var(--space-2) 0 var(--space-2) var(--space-4);border-top:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{padding-left:0;text-align:left}
thead th,thead td{border-top:0;color:var(--soft);font-weight:600}
tbody th{font-weight:500;white-space:normal;min-width:150px}
.words tbody th{white-space:nowrap;min-width:0}
@media (max-width:480px){tbody th{min-width:84px}thead th:first-child,td{white-space:normal}th,td{padding-left:var(--space-2)}.words tbody th{white-space:normal}}
.words{width:auto}
.words th,.words td{text-align:left;vertical-align:top}
.words td{white-space:normal;overflow-wrap:anywhere}
.words tbody th{color:var(--soft)}
`;
