// The interpreter that tests across runtimes start.
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

export const python: string =
  process.env['PYTHON_BIN'] ?? path.join(packageRoot, '.venv', 'bin', 'python');
