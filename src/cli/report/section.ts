// One section of a report, in no format yet: what Markdown and HTML are made of.

export interface Figure {
  /** Part of a file name. */
  name: string;
  /** What a reader who cannot see it is told. */
  alt: string;
  svg: string;
}

export interface Table {
  caption: string;
  head: string[];
  /** Cells; the first of a row is its heading. */
  rows: string[][];
}

export interface Section {
  title: string;
  paragraphs: string[];
  figures: Figure[];
  tables: Table[];
}
