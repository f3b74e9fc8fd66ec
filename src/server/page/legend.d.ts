// Types of legend.js for the command line, which writes the same legend into its HTML files.

/** What the legend reads of a contract. */
export interface LegendContract {
  policy: { name: string };
  segment: { min: number; max: number };
  carry: { size: number; sinks: number; heads?: string | undefined };
  retrieval: { size: number; layers: readonly number[] };
  heads: { long: readonly (readonly number[])[] };
}

export interface LegendEntry {
  /** Of the class `role-…` in base.css. */
  role: string;
  name: string;
  words: string;
}

export function legendOf(contract: LegendContract): LegendEntry[];
