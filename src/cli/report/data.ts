// What the report's job measured (python/lockstep/evaluation/report): the one thing that report files are made of.
import type { RecallResult } from '../recall/run.ts';

/** How things stand after so many tokens of a pass. */
export interface CostPoint {
  tokens: number;
  /** Seconds since the pass began. */
  seconds: number;
  /** Bytes that serving keeps between steps. */
  held: number;
  /** Most bytes taken so far beyond the loaded model. */
  peak: number;
}

/** One model, run in one way, over the text. */
export interface Way {
  /** Perplexity of the first n tokens, by n. */
  perplexity: Record<string, number>;
  /** Mean loss of every `bin` positions, nats per token. */
  bins: number[];
  points: CostPoint[];
}

const wayNames = ['baseFull', 'baseSegmented', 'trainedSegmented', 'trainedFull'] as const;
export type WayName = (typeof wayNames)[number];

/** What one layer retrieved: a row a boundary, a column a stretch of the text. */
export interface RetrievalMap {
  layer: number;
  /** Share of the stretch's tokens that were retrieved, mean of the heads; null behind the boundary. */
  rows: (number | null)[][];
  /** Median distance from a boundary to a retrieved row, tokens. */
  back: number | null;
}

export interface ReportData {
  /** Name of the checkpoint's folder. */
  name: string;
  text: { file: string; skip: number; tokens: number };
  lengths: number[];
  bin: number;
  ways: Partial<Record<WayName, Way>>;
  retrieved: { bin: number; boundaries: number[]; maps: RetrievalMap[] } | null;
  contract: {
    digest: string;
    policy: { name: string; params: unknown };
    segment: { min: number; max: number; align: number };
    carry: { size: number; sinks: number; heads?: string };
    retrieval: { size: number; recipe: string; layers: number[] };
    heads: { long: number[][] };
    training: { truncation: number } | null;
    trained: { steps: number; tokens: number };
  };
  training: {
    settings: Record<string, unknown>;
    /** Rows [step, tokens, seconds, loss, learning rate, gradient norm]. */
    curve: number[][];
    /** Held-out text before and after, nats per token. */
    scores: Record<string, number>;
    /** The same during the training: rows [step, run segmented, run with full attention]. */
    validations: number[][];
  } | null;
  /** What `lockstep recall` kept, where it did. */
  recall: RecallResult | null;
  /** Folder of the model that the checkpoint was trained from. */
  base: string | null;
}

/** Whether a trained model was measured beside the untrained one. */
export function wasTrained({ ways }: ReportData): boolean {
  return ways.trainedSegmented !== undefined || ways.trainedFull !== undefined;
}

/** What each way is called in pictures and tables. */
function wayLabel(name: WayName, data: ReportData): string {
  const trained = wasTrained(data);
  const labels: Record<WayName, string> = {
    baseFull: trained ? 'full attention, untrained' : 'full attention',
    baseSegmented: trained ? 'segmented, untrained' : 'segmented',
    trainedSegmented: 'segmented, trained',
    trainedFull: 'full attention, trained',
  };
  return labels[name];
}

/** The ways that were measured, in the order in which they are shown. */
export function measuredWays(data: ReportData): { name: WayName; label: string; way: Way }[] {
  return wayNames.flatMap((name) => {
    const way = data.ways[name];
    return way === undefined ? [] : [{ name, label: wayLabel(name, data), way }];
  });
}
