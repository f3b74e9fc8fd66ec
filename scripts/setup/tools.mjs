// npm run setup -- --tools: TRL and lm-evaluation-harness in .venv, for lockstep.trl and lockstep.lm_eval.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fingerprint, root, say, venv } from '../lib.mjs';
import { pip } from './python.mjs';

const python = (name) => path.join(root, 'python', name);
const list = 'requirements-tools.txt';
const marker = path.join(venv, '.lockstep-tools');

export async function setUpTools({ force }) {
  // A change of .venv's own packages may have moved what the tools need.
  const wanted = fingerprint([list, 'requirements.txt', 'constraints.txt'].map(python));
  if (!force && existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return;
  say('TRL and lm-evaluation-harness (about 80 MB)');
  // The list is complete: with dependencies pip would look for newer ones of .venv's own.
  await pip(['install', '--no-deps', '-r', python(list)], 'TRL and lm-evaluation-harness');
  writeFileSync(marker, wanted);
}
