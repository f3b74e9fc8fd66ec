// Copies what tsc does not: the page's static files, beside the server that serves them; the policy
// runtimes and the engine that runs them, for Node and for Python.
import { cpSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const to = path.join(root, 'dist', 'server', 'page');
rmSync(to, { recursive: true, force: true });
cpSync(path.join(root, 'src', 'server', 'page'), to, { recursive: true });

const runtimes = path.join(root, 'src', 'planner', 'runtime');
const forPython = path.join(root, 'python', 'lockstep', 'data');
for (const name of readdirSync(runtimes).filter((file) => file.endsWith('.js'))) {
  cpSync(path.join(runtimes, name), path.join(root, 'dist', 'planner', 'runtime', name));
  cpSync(path.join(runtimes, name), path.join(forPython, name));
}
const engine = fileURLToPath(import.meta.resolve('@jitl/quickjs-ng-wasmfile-release-sync/wasm'));
cpSync(engine, path.join(forPython, 'quickjs-ng.wasm'));
