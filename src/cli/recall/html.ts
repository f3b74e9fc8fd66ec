// A measurement of recall as one HTML file that needs nothing else: no script, no network.
import { escapeXml } from '../escape-xml.ts';
import { pageStyle, sectionHtml } from '../report/html.ts';
import type { RecallResult } from './run.ts';
import { recallSection } from './section.ts';

export function recallHtml(name: string, result: RecallResult): string {
  const title = escapeXml(`Recall of ${name}`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${pageStyle}</style>
</head>
<body>
<header><h1>${title}</h1></header>
<main>
${sectionHtml(recallSection(result))}
</main>
</body>
</html>
`;
}
