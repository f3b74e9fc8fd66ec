// Where the package keeps its parts, whether it runs from src/ (tests) or from dist/ (users).
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));

/** Root of the package: the folder with package.json. */
export const packageRoot: string = path.dirname(here);

/** Folder that holds the Python package `lockstep`. */
export const pythonRoot: string = path.join(packageRoot, 'python');

/** Whether this is a clone, which has a set-up of its own, or an installed package. */
export const isClone: boolean = existsSync(path.join(packageRoot, 'scripts', 'setup.mjs'));

/** What makes the Python environment, from where the user stands. `extra`: one of pyproject.toml's. */
export function setUpCommand(extra: 'train' | 'vllm' = 'train'): string {
  if (isClone) return extra === 'train' ? 'npm run setup' : `npm run setup -- --${extra}`;
  const windows = process.platform === 'win32';
  const python = windows ? '.venv\\Scripts\\python' : '.venv/bin/python';
  const relative = path.relative(process.cwd(), pythonRoot);
  const half = path.isAbsolute(relative) || relative.startsWith('.') ? relative : `./${relative}`;
  const pins = path.join(half, 'constraints.txt');
  return `${windows ? 'python' : 'python3'} -m venv .venv && ${python} -m pip install "${half}[${extra}]" -c "${pins}"`;
}

/**
 * URL of a built module, for worker threads. Workers always run built code, so tests that start one
 * need `npm run build` first (`npm test` does it).
 *
 * @param relative path below `dist/`, e.g. `engines/onnx/worker.js`
 */
export function builtModule(relative: string): URL {
  return pathToFileURL(path.join(packageRoot, 'dist', relative));
}
