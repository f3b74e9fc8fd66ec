// Lines of text in an SVG, which does not break them by itself.
import { escapeXml } from './escape-xml.ts';

/** Widths of a picture: beside others on a wide screen, and alone on a phone. */
export const [wide, narrow] = [640, 336] as const;

/** Pixels that a text takes in a wide sans-serif font, about. */
export function textWidth(text: string, size = 13): number {
  let width = 0;
  for (const letter of text)
    width += /[fijlrtI.,:;'|()[\] ]/.test(letter) ? 0.38 : /[mwMW%@]/.test(letter) ? 0.95 : 0.63;
  return width * size;
}

/** The text in lines that fit into `room` pixels; a longer word is cut. */
export function breakLines(text: string, room: number, size = 13): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter((one) => one !== '')) {
    const fits = cut(word, room, size);
    const last = lines.at(-1);
    if (last !== undefined && textWidth(`${last} ${fits}`, size) <= room) {
      lines[lines.length - 1] = `${last} ${fits}`;
    } else lines.push(fits);
  }
  return lines;
}

function cut(word: string, room: number, size: number): string {
  let fits = word;
  while (fits.length > 1 && textWidth(fits, size) > room) fits = `${fits.slice(0, -2)}…`;
  return fits;
}

export interface Placed {
  x: number;
  /** Base line of the first line. */
  y: number;
  name?: string;
  anchor?: 'start' | 'middle' | 'end';
  /** Pixels from line to line. */
  step?: number;
}

/** One `<text>` a line. */
export function textLines(lines: readonly string[], placed: Placed): string {
  const { x, y, name = '', anchor = 'start', step = 18 } = placed;
  const named = name === '' ? '' : ` class="${name}"`;
  const anchored = anchor === 'start' ? '' : ` text-anchor="${anchor}"`;
  return lines
    .map(
      (line, i) =>
        `<text${named} x="${x.toFixed(1)}" y="${(y + i * step).toFixed(1)}"${anchored}>${escapeXml(line)}</text>`,
    )
    .join('');
}

/** Title and subtitle at the top of a picture; `bottom` is where the next thing may begin. */
export function heading(
  title: string,
  subtitle: string,
  room: { x: number; width: number },
): { svg: string; bottom: number } {
  const titles = breakLines(title, room.width, 16);
  const below = breakLines(subtitle, room.width);
  const under = 12 + titles.length * 20;
  return {
    svg:
      textLines(titles, { x: room.x, y: 28, name: 'title', step: 20 }) +
      textLines(below, { x: room.x, y: under + 18, name: 'muted' }),
    bottom: under + below.length * 18 + 6,
  };
}
