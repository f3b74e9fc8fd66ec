// What to do with a checkpoint that has a contract.
import path from 'node:path';
import { shellWord } from '../../shell-word.ts';

/** One line: the commands that export, check and serve the checkpoint in `out`. */
export function nextSteps(out: string): string {
  const relative = path.relative(process.cwd(), out) || '.';
  const dir = shellWord(relative.startsWith('..') ? path.resolve(out) : relative);
  return `next: lockstep export ${dir}; lockstep verify ${dir}; lockstep serve ${dir}\n`;
}
