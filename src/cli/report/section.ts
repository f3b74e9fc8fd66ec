// One section of a report, in no format yet: what Markdown and HTML are made of.
import { narrow, wide } from '../drawing/text-lines.ts';

export interface Figure {
  /** Part of a file name. */
  name: string;
  /** Text alternative of the picture, for screen readers. */
  alt: string;
  svg: string;
  /** The same for a phone. */
  narrow: string;
}

/** @param draw the picture at a width in pixels */
export function figureOf(name: string, alt: string, draw: (width: number) => string): Figure {
  return { name, alt, svg: draw(wide), narrow: draw(narrow) };
}

export interface Table {
  caption: string;
  head: string[];
  /** Cells; the first of a row is its heading. */
  rows: string[][];
  /** The cells are words, not numbers below one another. */
  words?: true;
}

export interface Section {
  title: string;
  paragraphs: string[];
  figures: Figure[];
  tables: Table[];
}
