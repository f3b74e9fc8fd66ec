// The interpreters that tests start.
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

export const python: string =
  process.env['PYTHON_BIN'] ?? path.join(packageRoot, '.venv', 'bin', 'python');

/**
 * Not a fork of one that has imported PyTorch (test/warm): for tests that look at what the interpreter starts, and at
 * who started it.
 */
export const realPython: string = process.env['LOCKSTEP_REAL_PYTHON'] ?? python;
