// lockstep plan --trace: what the policy answers to each token, and its state behind it.
import { once } from 'node:events';
import type { ContractFiles } from '../../checkpoint/index.ts';
import { LockstepError } from '../../errors.ts';
import { PolicyHost, Segmenter, tracedHost } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { paint } from '../shared/output.ts';
import { printJson } from './print-json.ts';

export interface Source {
  files: ContractFiles;
  tokenizer: Tokenizer;
}

/** One token, and how the policy and the planner stand behind it. */
export interface Step {
  /** Position in the sequence, from 0. */
  readonly index: number;
  readonly id: number;
  readonly text: string;
  /** Whether the policy asked for a cut after this token. */
  readonly asks: boolean;
  /** Whether the planner cut. */
  readonly cut: boolean;
  /** Tokens in the segment, this one included. */
  readonly length: number;
  /** The policy's state, `cut` included where there was one; null where it is no JSON (`fault`). */
  readonly state: unknown;
  readonly fault?: string;
}

/** Print every token's step and, for programs, the plan as the last line. @throws LS_POLICY_*, LS_TEXT_* */
export async function trace(file: string, source: Source, json: boolean): Promise<void> {
  const { contract } = source.files;
  const { stdout } = process;
  const boundaries: number[] = [];
  let tokens = 0;
  if (!json) stdout.write(heading());
  for await (const step of steps(file, source)) {
    tokens = step.index + 1;
    if (step.cut) boundaries.push(tokens);
    if (!stdout.write(json ? `${JSON.stringify(step)}\n` : row(step, contract.segment))) {
      await once(stdout, 'drain');
    }
  }
  if (json) await printJson(tokens, boundaries, contract.digest);
}

async function* steps(file: string, { files, tokenizer }: Source): AsyncGenerator<Step> {
  const { contract } = files;
  const host = tracedHost(files) ?? new PolicyHost(files);
  const segmenter = new Segmenter(host);
  try {
    const pieces = tokenizer.encodeFile(file, { bos: contract.tokenizer.bos !== null });
    for await (const { ids } of pieces) {
      for (const id of ids) {
        const length = segmenter.openLength + 1;
        const cut = segmenter.push(id);
        const index = segmenter.position - 1;
        const text = tokenizer.vocabulary.text(id);
        yield { index, id, text, cut, length, ...stateOf(segmenter) };
      }
    }
  } finally {
    segmenter.close();
    host.close();
  }
}

function stateOf(segmenter: Segmenter): Pick<Step, 'asks' | 'state' | 'fault'> {
  try {
    const { state, answer } = JSON.parse(segmenter.snapshot(), readZero);
    return { asks: answer === true, state };
  } catch (error) {
    if (!(error instanceof LockstepError) || error.code !== 'LS_POLICY_STATE') throw error;
    return { asks: false, state: null, fault: error.message };
  }
}

/** JSON has no -0; snapshots write it as a text, and texts that begin alike with one mark more. */
function readZero(_key: string, value: unknown): unknown {
  if (typeof value !== 'string' || !value.startsWith('\0')) return value;
  return value === '\0-0' ? -0 : value.slice(1);
}

function heading(): string {
  return paint(process.stdout).dim('   token       id  text            asks  length  state\n');
}

function row(step: Step, { min }: ContractFiles['contract']['segment']): string {
  const { bold, cyan, dim } = paint(process.stdout);
  const { index, id, length, asks, cut, state, fault } = step;
  const text = JSON.stringify(step.text);
  const shown = text.length > 15 ? `${text.slice(0, 13)}…"` : text;
  const answer = cut ? 'cut' : asks ? (length < min ? 'drop' : 'wait') : '';
  const asked = asks ? 'yes' : '';
  return (
    `${String(index).padStart(8)} ${String(id).padStart(8)}  ${shown.padEnd(15)} ` +
    `${cyan(asked.padEnd(4))} ${String(length).padStart(7)}  ` +
    `${fault ?? JSON.stringify(state)}${answer === '' ? '' : ` ${cut ? bold('<- cut') : dim(`<- ${answer}`)}`}\n`
  );
}
