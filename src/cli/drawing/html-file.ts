// One HTML file that needs nothing else: no script, no network. It looks as the server's page does, because
// it holds a copy of the page's tokens, its shared style sheet, its mark and its legend.
import { type LegendContract, legendOf } from '../../server/page/legend.js';
import { escapeXml } from './escape-xml.ts';
import { pageFile, tokensCss } from './tokens.ts';

export interface HtmlPage {
  /** Plain text: the file's title and its first heading. */
  title: string;
  /** Plain text below the heading. */
  subtitle: string;
  /** Name of the model that this is of. */
  model: string;
  /** Of its contract: hexadecimal digits. */
  digest: string;
  /** Plain texts that stand beside them in the header. */
  notes?: readonly string[];
  /** Contract for the legend, which ends the file. */
  contract: LegendContract;
  /** CSS beyond what all files share. */
  style: string;
  /** HTML between heading and legend. */
  body: string;
}

const baseCss = pageFile('base.css');
const mark = pageFile('icon.svg').trim();
const icon = Buffer.from(mark, 'utf8').toString('base64');
/** Within HTML an SVG needs no namespace, and the mark says nothing that the word beside it does not. */
const logo = mark
  .replace(/ xmlns="[^"]*"/, ' class="logo" aria-hidden="true"')
  .replace(/<title>.*?<\/title>/, '');

/** The file as text. */
export function htmlFile(page: HtmlPage): string {
  const { title, subtitle, model, digest, notes = [], contract, style, body } = page;
  const chips = [
    `<b>${escapeXml(model)}</b>`,
    `digest <code class="digest" tabindex="0" title="${digest}">${digest.slice(0, 10)}<i>${digest.slice(10)}</i></code>`,
    ...notes.map(escapeXml),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:image/svg+xml;base64,${icon}">
<title>${escapeXml(title)}</title>
<style>${compact(tokensCss)}${compact(baseCss)}${compact(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top"><div class="brand">${logo}<span>Lockstep</span></div>
<ul class="chips" aria-label="What this is of">${chips.map((chip) => `<li class="chip">${chip}</li>`).join('')}</ul></header>
<main id="main" tabindex="-1">
<div class="lead"><h1>${escapeXml(title)}</h1><p>${escapeXml(subtitle)}</p></div>
${body}
${legend(contract)}
</main>
</body>
</html>
`;
}

function legend(contract: LegendContract): string {
  const keys = legendOf(contract).map(
    ({ role, name, words }) =>
      `<li class="role-${role}"><b>${escapeXml(name)}</b><span>${escapeXml(words)}</span></li>`,
  );
  return `<section class="card legend" aria-labelledby="legend-title">
<h2 id="legend-title">What the colours mean</h2>
<ul class="keys">${keys.join('')}</ul>
</section>`;
}

/** CSS without comments and line breaks: a reader of the file has no use for them. */
function compact(css: string): string {
  return css
    .replaceAll(/\/\*.*?\*\//gs, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}
