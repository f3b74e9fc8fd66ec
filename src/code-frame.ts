// A line of source with its neighbours, and a mark below the column at fault.
import path from 'node:path';
import type { SourcePlace } from './errors.ts';

/** Lines shown before and after the one at fault. */
const around = 2;
/** Columns of a line that are shown; of a longer one those around the mark. */
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

/** Offset of a line (from 1) and column (from 0). */
export function offsetOf(text: string, line: number, column: number): number {
  let start = 0;
  for (let at = 1; at < line; at++) start = text.indexOf('\n', start) + 1;
  return start + column;
}

/** Line (from 1) and column (from 0) of an offset. */
export function positionOf(text: string, offset: number): { line: number; column: number } {
  const lines = text.slice(0, offset).split('\n');
  return { line: lines.length, column: (lines.at(-1) as string).length };
}

/** Lines around `line` with their numbers and a mark below `column` (both from 1); undefined past the end. */
function codeFrame(text: string, line: number, column: number): string | undefined {
  const lines = text.split(/\r?\n/);
  if (lines[line - 1] === undefined) return undefined;
  const first = Math.max(1, line - around);
  const last = Math.min(lines.length, line + around);
  const digits = String(last).length;
  const from = column <= width - 20 ? 0 : column - width / 2;
  const shown: string[] = [];
  for (let at = first; at <= last; at++) {
    const source = printable((lines[at - 1] as string).slice(from, from + width));
    const number = String(at).padStart(digits);
    shown.push(`${at === line ? '>' : ' '} ${number} | ${source}`.trimEnd());
    if (at === line) shown.push(`  ${' '.repeat(digits)} | ${' '.repeat(column - 1 - from)}^`);
  }
  return shown.join('\n');
}

/** Tabs and control characters as one blank each, so that columns stay where they are. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}
