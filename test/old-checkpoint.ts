// A checkpoint as Lockstep made it when contracts were of version 1.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { tinyCheckpoint } from './tiny-checkpoint.ts';

/** `own`: a combinator of Lockstep's, trained; `custom`: the policy of test/policies/repeats.ts. */
export function oldCheckpoint(dir: string, kind: 'own' | 'custom' = 'own'): string {
  tinyCheckpoint(dir);
  const stored = path.join(import.meta.dirname, 'contracts', `v1-${kind}`);
  for (const name of ['lockstep.json', 'policy.js', 'README.md']) {
    copyFileSync(path.join(stored, name), path.join(dir, name));
  }
  const file = path.join(dir, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  const architectures = ['SegmentedLlamaForCausalLM'];
  writeFileSync(file, JSON.stringify({ ...config, architectures }));
  return dir;
}
