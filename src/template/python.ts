// A Python of WebAssembly (Pyodide) with Jinja2 in it: what renders chat templates, without any Python on
// the machine. It starts from a picture of its memory that the build makes, in a fifth of the time.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPyodide, type PyodideAPI, version } from 'pyodide';
import { builtModule, pythonRoot } from '../paths.ts';

/** Jinja2 and MarkupSafe, as PyPI has them (packages/README.md). */
const packages = [
  { file: 'jinja2-3.1.6-py3-none-any.whl', format: 'wheel', from: '' },
  { file: 'markupsafe-3.0.4.tar.gz', format: 'gztar', from: '/markupsafe-3.0.4/src' },
] as const;
/** Of python/lockstep/chat: the environment, which training uses too, and what answers for it. */
const ours = ['environment.py', 'wasm.py'] as const;
/** Where Python finds both. */
const library = '/lib/lockstep-packages';
const here = path.dirname(fileURLToPath(import.meta.url));

/** Python's side: `Rendering` of python/lockstep/chat/wasm.py. Its answers are JSON texts. */
export interface Rendering {
  load(source: string): string;
  render(context: string, body?: string): string;
}

/** @param characters most that a template may write */
export async function startRendering(characters: number): Promise<Rendering> {
  const python = (await fromPicture()) ?? (await fromNothing(false));
  // Python could reach this process through them.
  for (const name of ['js', 'pyodide_js']) python.unregisterJsModule(name);
  return python.runPython(`Rendering(${characters})`) as Rendering;
}

/** Bytes of Python's memory once all is imported, for `pictureFile()`. */
export async function makePicture(): Promise<Uint8Array> {
  return (await fromNothing(true)).makeMemorySnapshot();
}

/** Named after all that is in it: an older one is never taken for it. */
export function pictureFile(): string {
  const hash = createHash('sha256').update(version).update(imports);
  for (const { bytes } of parts()) hash.update(bytes);
  const name = `python-${hash.digest('hex').slice(0, 16)}.memory`;
  return fileURLToPath(builtModule(`template/${name}`));
}

function parts(): { name: string; bytes: Uint8Array }[] {
  return [
    ...packages.map(({ file }) => path.join(here, 'packages', file)),
    ...ours.map((name) => path.join(pythonRoot, 'lockstep', 'chat', name)),
  ].map((file) => ({ name: path.basename(file), bytes: new Uint8Array(readFileSync(file)) }));
}

/** All of Jinja2: a picture is of memory alone, without the files that it was read from. */
const imports = `
import importlib, pkgutil, jinja2
for found in pkgutil.iter_modules(jinja2.__path__):
    importlib.import_module(f"jinja2.{found.name}")
from lockstep.chat.wasm import Rendering
`;
const bare = () => ({ jsglobals: Object.create(null) as object, env: {} });

/** Null where there is none, or none that this version can take. */
async function fromPicture(): Promise<PyodideAPI | null> {
  const file = pictureFile();
  if (!existsSync(file)) return null;
  const picture = new Uint8Array(readFileSync(file));
  return loadPyodide({ ...bare(), _loadSnapshot: picture } as object).catch(() => null);
}

async function fromNothing(forPicture: boolean): Promise<PyodideAPI> {
  const python = await loadPyodide({ ...bare(), _makeSnapshot: forPicture } as object);
  const bytes = new Map(parts().map((part) => [part.name, part.bytes]));
  for (const { file, format } of packages) {
    python.unpackArchive(bytes.get(file) as Uint8Array, format, { extractDir: library });
  }
  const folder = `${library}/lockstep/chat`;
  python.FS.mkdirTree(folder);
  for (const name of ours) python.FS.writeFile(`${folder}/${name}`, bytes.get(name) as Uint8Array);
  const paths = packages.map(({ from }) => library + from);
  python.runPython(`import sys; sys.path[:0] = ${JSON.stringify(paths)}`);
  python.runPython(imports);
  return python;
}
