// Questions on a terminal, each with an answer to take by pressing Enter.
import { createInterface } from 'node:readline/promises';
import { LockstepError } from '../../errors.ts';
import { paint } from '../shared/output.ts';

export interface Question {
  readonly text: string;
  /** What was found; the first one is the answer where nothing is typed. */
  readonly found: readonly string[];
}

/** Choices shown with a number. */
const shownChoices = 9;

/** Ask one question. @throws LS_CANCELLED where the terminal is closed */
export async function ask({ text, found }: Question): Promise<string> {
  const { bold, dim } = paint(process.stderr);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const closed = new AbortController();
  lines.once('close', () => closed.abort());
  lines.once('SIGINT', () => closed.abort());
  try {
    const shown = found.slice(0, shownChoices);
    if (shown.length > 1) {
      for (const [i, one] of shown.entries()) process.stderr.write(`  ${dim(`${i + 1}`)} ${one}\n`);
    }
    const [first] = shown;
    const hint = first === undefined ? '' : dim(` [${first}]`);
    const answer = (
      await lines.question(`${bold(text)}${hint} `, { signal: closed.signal })
    ).trim();
    if (answer === '') return first ?? '';
    return /^[1-9]$/.test(answer) ? (shown[Number(answer) - 1] ?? answer) : answer;
  } catch (cause) {
    if (!closed.signal.aborted) throw cause;
    throw new LockstepError('LS_CANCELLED', 'cancelled; nothing was written.', { cause });
  } finally {
    // A closed one would leave the terminal's next answer to nobody.
    lines.close();
  }
}
