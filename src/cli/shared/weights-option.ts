// --no-weights-check: for disks so slow that reading all weights once, to know whose they are, is too much.
import { Option } from 'commander';
import { weightsChecked } from '../../weights/check.ts';
import { paint } from './output.ts';

/** The option of every command that computes with a checkpoint's weights. */
export function noWeightsCheck(): Option {
  return new Option('--no-weights-check', 'skip checking the weights against lockstep.json');
}

/** Make the option hold in this process and in its children, and say so; before a command runs. */
export function applyWeightsOption(options: Readonly<Record<string, unknown>>): void {
  if (!('weightsCheck' in options)) return;
  if (options['weightsCheck'] === false) process.env['LOCKSTEP_NO_WEIGHTS_CHECK'] = '1';
  if (weightsChecked()) return;
  const { yellow } = paint(process.stderr);
  process.stderr.write(
    `${yellow('warning')}: weights are not checked against the checksums in lockstep.json\n`,
  );
}
