// A plan as text for the terminal: one row a segment, the text itself where it is short.
import { hasColor, paint, type Screen } from '../shared/output.ts';
import { type MapHeading, type SegmentMap, type SegmentRow, thousands } from './segment-map.ts';

/** Texts of up to this many tokens are printed whole under their rows. */
const wholeText = 1024;
const blocks = '▁▂▃▄▅▆▇█';
/** Two backgrounds that stay readable on light and dark terminals: white on blue, white on purple. */
const tints = ['\x1b[38;5;231;48;5;24m', '\x1b[38;5;231;48;5;54m'] as const;
const reset = '\x1b[0m';

/** Print a map; colours and width follow the screen. */
export function printSegmentMap(map: SegmentMap, heading: MapHeading, screen: Screen): void {
  const { bold, dim } = paint(screen);
  const color = hasColor(screen);
  const width = Math.max(60, Math.min(screen.columns ?? 100, 160));
  const segments =
    map.closed === 1 ? '1 closed segment' : `${thousands(map.closed)} closed segments`;
  screen.write(`${bold(heading.title)}  ${thousands(map.tokens)} tokens, ${segments}\n`);
  screen.write(
    `${heading.policy} ${dim(heading.params)}  min ${heading.min}  max ${heading.max}` +
      `${heading.align > 1 ? `  align ${heading.align}` : ''}  ${dim(`digest ${heading.digest.slice(0, 16)}`)}\n`,
  );
  if (map.closed > 0) screen.write(`${lengths(map, heading)}\n`);
  if (map.tokens === 0) {
    screen.write(`${dim('no tokens: nothing to cut')}\n`);
    return;
  }
  const digits = thousands(map.tokens).length;
  screen.write('\n');
  for (const row of map.head) screen.write(`${line(row, digits, width, heading.max, screen)}\n`);
  if (map.skipped > 0) {
    screen.write(`${dim(`  ... ${thousands(map.skipped)} more segments ...`)}\n`);
  }
  for (const row of map.tail) screen.write(`${line(row, digits, width, heading.max, screen)}\n`);
  const rows = [...map.head, ...map.tail];
  if (map.tokens <= wholeText && map.skipped === 0 && rows.every((row) => row.text !== null)) {
    screen.write(`\n${rows.map((row) => segmentText(row, color)).join('')}\n`);
  }
}

function lengths(map: SegmentMap, heading: MapHeading): string {
  const most = Math.max(1, ...map.histogram);
  const bars = map.histogram.map((count) =>
    count === 0 ? ' ' : blocks[Math.min(7, Math.floor((8 * (count - 1)) / most))],
  );
  const share = Math.round((100 * map.atMax) / map.closed);
  return (
    `lengths 1 |${bars.join('')}| ${heading.max}   shortest ${map.shortest}  ` +
    `mean ${map.mean.toFixed(1)}  longest ${map.longest}  at max ${share}%`
  );
}

function line(row: SegmentRow, digits: number, width: number, max: number, screen: Screen): string {
  const { dim } = paint(screen);
  const length = row.end - row.start;
  const number = String(row.index).padStart(6);
  const range = `${thousands(row.start).padStart(digits)}-${thousands(row.end).padEnd(digits)}`;
  const size = `${String(length).padStart(String(max).length)}${row.open ? ' open' : '     '}`;
  const filled = Math.max(1, Math.round((12 * length) / max));
  const bar = '█'.repeat(filled) + '░'.repeat(12 - filled);
  const used = 6 + 2 + range.length + 2 + size.length + 1 + 12 + 2;
  const words = shorten(row, Math.max(16, width - used));
  const tinted = hasColor(screen) ? `${tints[row.index % 2]}${words}${reset}` : words;
  return `${number}  ${range}  ${size} ${dim(bar)}  ${tinted}`;
}

/** The first and last words of a segment in `width` characters. */
function shorten(row: SegmentRow, width: number): string {
  const first = visible(row.first);
  const all = row.last === '' ? first : `${first}${visible(row.last)}`;
  if (row.last === '' && first.length <= width) return first;
  const left = Math.ceil((width - 5) / 2);
  return `${all.slice(0, left)} ... ${all.slice(all.length - (width - 5 - left))}`;
}

function visible(text: string): string {
  return Array.from(text, (character) => {
    if (character === '\n') return '↵';
    if (character === '\t') return '⇥';
    return isControl(character) ? '·' : character;
  }).join('');
}

/** Control characters of a text must not drive the terminal. */
function isControl(character: string): boolean {
  const code = character.codePointAt(0) as number;
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

function segmentText(row: SegmentRow, color: boolean): string {
  const text = Array.from(row.text ?? '', (character) =>
    character !== '\n' && character !== '\t' && isControl(character) ? '·' : character,
  ).join('');
  if (!color) return `[${row.index}]${text}`;
  // A background that runs over a line end would fill the rest of the line.
  return text
    .split('\n')
    .map((part) => (part === '' ? '' : `${tints[row.index % 2]}${part}${reset}`))
    .join('\n');
}
