// Who judges a checkpoint: the readers in Node and in Python, and `lockstep serve`.
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { type Python, pythonEnvironment } from '../../src/bridge/index.ts';
import { readContract } from '../../src/checkpoint/index.ts';
import { type Precision, readGraph } from '../../src/engines/onnx.ts';
import type { LockstepError } from '../../src/errors.ts';
import { packageRoot } from '../../src/paths.ts';

/** `accepted`, or an error's code and the field that it names. */
export type Outcome = [code: string, field: string | null];

export async function inNode(dir: string): Promise<Outcome> {
  try {
    const { contract } = await readContract(dir);
    for (const precision of readdirSync(path.join(dir, 'onnx'))) {
      await readGraph(dir, precision as Precision, contract);
    }
    return ['accepted', null];
  } catch (error) {
    const { code, field } = error as LockstepError;
    // Anything but an error of ours is a fault.
    if (code === undefined || !code.startsWith('LS_')) throw error;
    return [code, field ?? null];
  }
}

/** All folders in one process. */
export function inPython(python: Python, dirs: readonly string[]): Outcome[] {
  const script = path.join(import.meta.dirname, '..', 'python', 'judge_edits.py');
  const printed = execFileSync(python.executable, [script], {
    input: JSON.stringify(dirs),
    env: pythonEnvironment(),
    encoding: 'utf8',
  });
  return JSON.parse(printed) as Outcome[];
}

/** Start `lockstep serve` on the exported graph: `serves`, or the code it ends with. */
export function atServe(dir: string): Promise<string> {
  const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const args = [cli, 'serve', dir, '--engine', 'onnx', '--port', '0'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let serves = false;
  return new Promise((resolve, reject) => {
    const hear = (part: Buffer): void => {
      said += part.toString('utf8');
      if (serves || !said.includes('Ctrl-C stops it')) return;
      serves = true;
      child.kill('SIGTERM');
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', reject);
    child.on('close', () => {
      try {
        resolve(outcomeOf(dir, said, serves));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** The same for many folders, one after the other in one process: to start Node takes longer than to refuse one. */
export function atServeEach(dirs: readonly string[]): string[] {
  const script = path.join(import.meta.dirname, 'serve-each.mjs');
  const printed = execFileSync(process.execPath, [script], {
    input: JSON.stringify(dirs),
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const outcomes = JSON.parse(printed) as { said: string; serves: boolean; code: number }[];
  return outcomes.map(({ said, serves, code }, at) => {
    const dir = dirs[at] as string;
    if (code !== (serves ? 0 : 1)) throw new Error(`lockstep serve ${dir}: ${code}, ${said}`);
    return outcomeOf(dir, said, serves);
  });
}

function outcomeOf(dir: string, said: string, serves: boolean): string {
  if (serves) return 'serves';
  const code = /\bLS_[A-Z_]+/.exec(said)?.[0];
  if (code !== undefined && !/^\s+at /m.test(said)) return code;
  throw new Error(`lockstep serve ${dir} said: ${said}`);
}
