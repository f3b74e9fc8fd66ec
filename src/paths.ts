// Where the package keeps its parts, whether it runs from src/ (tests) or from dist/ (users).
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));

/** Root of the package: the folder with package.json. */
export const packageRoot: string = path.dirname(here);

/** Folder that holds the Python package `lockstep`. */
export const pythonRoot: string = path.join(packageRoot, 'python');

/**
 * URL of a built module, for worker threads. Workers always run built code, so tests that start one
 * need `npm run build` first (`npm test` does it).
 *
 * @param relative path below `dist/`, e.g. `engines/onnx/worker.js`
 */
export function builtModule(relative: string): URL {
  return pathToFileURL(path.join(packageRoot, 'dist', relative));
}
