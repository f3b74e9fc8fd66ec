// What every raw result of this folder carries, and where it is kept.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

export const raw = path.join(packageRoot, 'bench', 'serving', 'raw');

export interface Recorded {
  command: string;
  date: string;
  commit: string;
  machine: { cpu: string; cores: number; node: string };
}

/** Write `raw/<name>.json`, or another file. */
export function record(name: string, result: object, file = path.join(raw, `${name}.json`)): void {
  const header: Recorded = {
    command:
      `npx tsx bench/serving/${name}.ts ${process.argv.slice(2).map(shown).join(' ')}`.trim(),
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    machine: {
      cpu: os.cpus()[0]?.model ?? 'unknown',
      cores: os.cpus().length,
      node: process.version,
    },
  };
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...header, ...result }, null, 1)}\n`);
}

/** Results are published: their paths begin at the repository. */
function shown(argument: string): string {
  return path.isAbsolute(argument) ? path.relative(packageRoot, argument) : argument;
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}
