// What may be wrong with a checkpoint's weights: an edit a row, and what every reader says to it.
import { index, single, type WeightEdit } from './weight-edit.ts';
import { fileEdits, indexEdits } from './weight-files.ts';
import { headEdits, headerEdits, identityEdits, tensorEdits } from './weight-tensors.ts';

export const weightEdits: readonly WeightEdit[] = [
  ...[...fileEdits, ...headerEdits, ...tensorEdits, ...headEdits, ...identityEdits].map((row) => ({
    file: single,
    ...row,
  })),
  ...indexEdits.map((row) => ({ file: index, ...row })),
];
