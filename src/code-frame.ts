// A line of source with its neighbours, and a mark below the column at fault.
import path from 'node:path';
import type { SourcePlace } from './errors.ts';

/** Lines shown before and after the one at fault. */
const around = 2;
/** Columns of a line that are shown. */
const width = 100;

/**
 * The place with its frame, from the file's text.
 *
 * @param file absolute path, or the name that the user is to read
 * @param line from 1
 * @param column from 1
 */
export function placeIn(file: string, text: string, line: number, column: number): SourcePlace {
  const shown = path.isAbsolute(file) ? path.relative(process.cwd(), file) : file;
  const frame = codeFrame(text, line, column);
  return { file: shown, line, column, ...(frame === undefined ? {} : { frame }) };
}

/** Lines around `line` with their numbers and a mark below `column` (both from 1); undefined past the end. */
export function codeFrame(text: string, line: number, column: number): string | undefined {
  const lines = text.split(/\r?\n/);
  if (lines[line - 1] === undefined) return undefined;
  const first = Math.max(1, line - around);
  const last = Math.min(lines.length, line + around);
  const digits = String(last).length;
  const shown: string[] = [];
  for (let at = first; at <= last; at++) {
    const source = printable((lines[at - 1] as string).slice(0, width)).trimEnd();
    const number = String(at).padStart(digits);
    shown.push(`${at === line ? '>' : ' '} ${number} | ${source}`.trimEnd());
    if (at === line && column <= width) {
      shown.push(`  ${' '.repeat(digits)} | ${' '.repeat(Math.max(0, column - 1))}^`);
    }
  }
  return shown.join('\n');
}

/** Tabs and control characters as one blank each, so that columns stay where they are. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}
