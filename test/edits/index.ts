// Every change by hand that the table in docs/contract.md tells of.
import { configEdits } from './config.ts';
import { contractEdits } from './contract.ts';
import type { Edit } from './edit.ts';
import { metaEdits } from './meta.ts';
import { weightEdits } from './weights.ts';

export const edits: readonly Edit[] = [
  ...configEdits,
  ...contractEdits,
  ...metaEdits,
  ...weightEdits,
];
