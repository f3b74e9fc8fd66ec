// One HTML file that needs nothing else: no script, no network.
import { escapeXml } from './escape-xml.ts';

/**
 * The file as text.
 *
 * @param title plain text
 * @param style CSS
 * @param body HTML
 */
export function htmlFile(title: string, style: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${escapeXml(title)}</title>
<style>${style}</style>
</head>
<body>
${body}
</body>
</html>
`;
}
