// What the machine must have before anything is fetched.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { root, SetupError, venvPython } from '../lib.mjs';

const NODE_MAJOR = 20;
const PYTHON = [3, 11];
/** Measured: node_modules 0.4 GB, .venv 1.6 GB, model and texts 0.7 GB, a trained checkpoint and its graph 1.3 GB. */
const DISK_BYTES = 5e9;

export function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < NODE_MAJOR) {
    throw new SetupError(
      'LS_SETUP_NODE',
      `expected Node ${NODE_MAJOR} or newer, got ${process.versions.node}.`,
      `install Node ${NODE_MAJOR} or newer, then run npm run setup again.`,
    );
  }
}

export async function checkDisk() {
  if (existsSync(venvPython)) return;
  const { bavail, bsize } = await statfs(root);
  const free = bavail * bsize;
  if (free < DISK_BYTES) {
    throw new SetupError(
      'LS_SETUP_DISK',
      `expected ${DISK_BYTES / 1e9} GB of free disk, got ${(free / 1e9).toFixed(1)} GB.`,
      'free some space, or clone onto a larger disk, then run npm run setup again.',
    );
  }
}

/** The interpreter that makes .venv: PYTHON_BIN, or the newest python3 on PATH that is new enough. */
export function findSystemPython(env = process.env) {
  const names = env.PYTHON_BIN
    ? [env.PYTHON_BIN]
    : ['python3.11', 'python3.12', 'python3.13', 'python3', 'python'];
  const seen = [];
  for (const name of names) {
    const probe = spawnSync(
      name,
      ['-c', 'import sys, venv, ensurepip; print("%d.%d.%d" % sys.version_info[:3])'],
      { encoding: 'utf8' },
    );
    if (probe.error || probe.status !== 0) {
      seen.push(`${name}: ${probe.error ? 'not found' : 'has no venv module'}`);
      continue;
    }
    const version = probe.stdout.trim();
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major > PYTHON[0] || (major === PYTHON[0] && minor >= PYTHON[1])) return { name, version };
    seen.push(`${path.basename(name)}: ${version}`);
  }
  throw new SetupError(
    'LS_SETUP_PYTHON',
    `expected Python ${PYTHON.join('.')} or newer with the venv module, got ${seen.join('; ')}.`,
    'install Python 3.11 or newer (on Debian also python3-venv), or name one with PYTHON_BIN, then run npm run setup again.',
  );
}
