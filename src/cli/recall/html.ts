// A measurement of recall as one HTML file.
import { escapeXml } from '../drawing/escape-xml.ts';
import { htmlFile } from '../drawing/html-file.ts';
import { pageStyle, sectionHtml } from '../report/html.ts';
import type { RecallResult } from './run.ts';
import { recallSection } from './section.ts';

export function recallHtml(name: string, result: RecallResult): string {
  const title = `Recall of ${name}`;
  return htmlFile(
    title,
    pageStyle,
    `<header><h1>${escapeXml(title)}</h1></header>
<main>
${sectionHtml(recallSection(result))}
</main>`,
  );
}
