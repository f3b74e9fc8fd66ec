// A report as Markdown; its pictures are SVG files beside it.
import type { ReportData } from './data.ts';
import { subtitle } from './html.ts';
import type { Section, Table } from './section.ts';

/** `picture`: where the picture of that name is written, relative to the report. */
export function reportMarkdown(
  data: ReportData,
  sections: readonly Section[],
  picture: (name: string) => string,
): string {
  const parts = [`# Report of ${data.name}`, subtitle(data)];
  for (const { title, paragraphs, figures, tables } of sections) {
    parts.push(`## ${title}`, ...paragraphs.map(escapeMarkdown));
    parts.push(...figures.map(({ alt, name }) => `![${alt}](${encodeURI(picture(name))})`));
    parts.push(...tables.map(table));
  }
  return `${parts.join('\n\n')}\n`;
}

function table({ caption, head, rows }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => escapeMarkdown(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    `${caption}:\n`,
    line(head),
    `|${head.map((_, i) => (i === 0 ? ' --- |' : ' ---: |')).join('')}`,
    ...rows.map(line),
  ].join('\n');
}

function escapeMarkdown(text: string): string {
  return text.replaceAll(/[*_<>`[\]]/g, '\\$&').replaceAll(/\s*\n\s*/g, ' ');
}
