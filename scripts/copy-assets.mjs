// Copies what tsc does not: the page's static files, beside the server that serves them; what renders
// chat templates; the policy runtimes and the engine that runs them, for Node and for Python.
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const to = path.join(root, 'dist', 'server', 'page');
rmSync(to, { recursive: true, force: true });
cpSync(path.join(root, 'src', 'server', 'page'), to, { recursive: true });

// `npx lockstep` makes the command executable once, when it first links this folder; a build writes it anew.
chmodSync(path.join(root, 'dist', 'cli', 'main.js'), 0o755);

const packages = path.join('template', 'packages');
cpSync(path.join(root, 'src', packages), path.join(root, 'dist', packages), { recursive: true });
await picture(path.join(root, 'dist', 'template'));

const runtimes = path.join(root, 'src', 'planner', 'runtime');
const forPython = path.join(root, 'python', 'lockstep', 'data');
for (const name of readdirSync(runtimes).filter((file) => file.endsWith('.js'))) {
  cpSync(path.join(runtimes, name), path.join(root, 'dist', 'planner', 'runtime', name));
  cpSync(path.join(runtimes, name), path.join(forPython, name));
}
const engine = fileURLToPath(import.meta.resolve('@jitl/quickjs-ng-wasmfile-release-sync/wasm'));
cpSync(engine, path.join(forPython, 'quickjs-ng.wasm'));
// setuptools takes license files from beside pyproject.toml only.
cpSync(path.join(root, 'LICENSE'), path.join(root, 'python', 'LICENSE'));
cpSync(path.join(root, 'THIRD_PARTY.md'), path.join(root, 'python', 'NOTICE.md'));

/** The memory of the Python that renders chat templates, where it is not of these files already. */
async function picture(folder) {
  const { makePicture, pictureFile } = await import(
    pathToFileURL(path.join(folder, 'python.js')).href
  );
  const file = pictureFile();
  for (const name of readdirSync(folder)) {
    if (name.endsWith('.memory') && name !== path.basename(file)) rmSync(path.join(folder, name));
  }
  if (existsSync(file)) return;
  writeFileSync(`${file}.part`, await makePicture());
  renameSync(`${file}.part`, file);
}
