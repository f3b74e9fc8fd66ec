// What a command says of a checkpoint that was never trained under its contract.
import type { Contract } from '../../contract/index.ts';
import type { Paint } from './output.ts';

export function untrainedLine({ carry }: Contract, { yellow }: Paint): string {
  return carry.sinks > 0
    ? `${yellow('untrained')} under this contract: quality is lower until you train it`
    : `${yellow('untrained')} under this contract and without sinks: quality is poor; set carry.sinks, or train it`;
}
