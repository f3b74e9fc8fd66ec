// The segments of one generation: where each begins, and, where it is traced, when each ran.
import type { RunEvent } from '../engines/runner.ts';

/** Most spans of segments below one stage; a prompt of 32,768 tokens has about 64 to 100. */
export const MOST_SEGMENTS = 128;

export interface ClosedSegment {
  /** Which text of the request, counted through its prompts. */
  choice: number;
  /** Its number in the sequence; the first is 0. */
  index: number;
  /** Position of its first token. */
  first: number;
  /** Position behind its last token. */
  end: number;
}

/** A segment that ran in this process. Times in milliseconds of `performance.now()`. */
export interface RanSegment extends ClosedSegment {
  from: number;
  to: number;
  /** Rows that its boundary retrieved, of all layers and heads. */
  retrieved: number;
}

type Ran = RunEvent & { type: 'ran' };
type OpenSegment = Pick<ClosedSegment, 'index' | 'first'>;

/** Numbers the segments of each choice. The choices of a prompt go on where the prompt has ended. */
export class OpenSegments {
  readonly #choices: number;
  readonly #open: OpenSegment[] = [];
  readonly #prompts: OpenSegment[] = [];

  /** @param choices texts after each prompt */
  constructor(choices: number) {
    this.#choices = choices;
  }

  /** What has ended with these tokens; null where no segment has. */
  take({ choice, prompt, boundary }: Ran): ClosedSegment | null {
    if (boundary === null) return null;
    const of = Math.floor(choice / this.#choices);
    const { index, first } = this.#open[choice] ?? this.#prompts[of] ?? { index: 0, first: 0 };
    const next = { index: index + 1, first: boundary.at };
    this.#open[choice] = next;
    if (prompt) this.#prompts[of] = next;
    return { choice, index, first, end: boundary.at };
  }
}

/** The segments below one stage: the first of them, and how many more there were. */
export class StageSegments {
  readonly kept: RanSegment[] = [];
  leftOut = 0;

  add(segment: RanSegment): void {
    if (this.kept.length < MOST_SEGMENTS) this.kept.push(segment);
    else this.leftOut += 1;
  }
}

/** When the segments of a traced generation ran, for an engine that is stepped from here. */
export class SegmentLog {
  readonly prefill: StageSegments = new StageSegments();
  readonly decode: StageSegments = new StageSegments();
  /** Segments that came from the prefix cache and did not run. */
  cached = 0;
  /** When each choice's open segment began. */
  readonly #since: number[] = [];
  #last: number;

  /** @param admitted when the generation got its slot */
  constructor(admitted: number) {
    this.#last = admitted;
  }

  /**
   * @param closed the segment that has ended with the event, where one has
   * @param first when the first token was written, where one was
   */
  see(event: RunEvent, closed: ClosedSegment | null, first: number | undefined): void {
    const now = performance.now();
    const from = this.#since[event.choice] ?? this.#last;
    this.#since[event.choice] = closed === null ? from : now;
    this.#last = now;
    if (closed === null || event.type !== 'ran') return;
    if (event.cached) {
      this.cached += 1;
      return;
    }
    const retrieved = (event.boundary?.retrieved ?? []).reduce(
      (sum, { positions }) => positions.reduce((more, one) => more + one.length, sum),
      0,
    );
    // One that was open when the answer began has ended in it: its span begins with the stage.
    const stage = first === undefined ? this.prefill : this.decode;
    stage.add({ ...closed, from: Math.max(from, first ?? from), to: now, retrieved });
  }
}
