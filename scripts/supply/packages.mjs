// What Lockstep brings along: files of others inside the npm package, and packages that it installs.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { root, venvPython } from '../lib.mjs';

/** @typedef {{name: string, version: string, license: string | null}} Package */

/**
 * Work of others inside the npm package. `text` gives its license text.
 * @type {(Package & {files: string, source: string, text: () => string})[]}
 */
export const included = [
  {
    name: 'quickjs-ng (through quickjs-emscripten)',
    ...lockedPackage('@jitl/quickjs-ng-wasmfile-release-sync'),
    files: 'python/lockstep/data/quickjs-ng.wasm',
    source: 'npm: @jitl/quickjs-ng-wasmfile-release-sync',
    text: () => readModule('@jitl/quickjs-ng-wasmfile-release-sync/LICENSE'),
  },
  {
    name: 'Jinja2',
    version: '3.1.6',
    license: 'BSD-3-Clause',
    files: 'dist/template/packages/jinja2-3.1.6-py3-none-any.whl',
    source: 'PyPI: Jinja2',
    text: () => unpacked('jinja2-3.1.6-py3-none-any.whl', '.dist-info/licenses/LICENSE.txt'),
  },
  {
    name: 'MarkupSafe',
    version: '3.0.4',
    license: 'BSD-3-Clause',
    files: 'dist/template/packages/markupsafe-3.0.4.tar.gz',
    source: 'PyPI: MarkupSafe',
    text: () => unpacked('markupsafe-3.0.4.tar.gz', '/LICENSE.txt'),
  },
  {
    name: 'CPython in Pyodide',
    ...lockedPackage('pyodide'),
    license: 'MPL-2.0 AND PSF-2.0',
    files:
      "dist/template/python-*.memory: an image of the interpreter's memory, with Jinja2 and MarkupSafe loaded",
    source: 'npm: pyodide (source: https://github.com/pyodide/pyodide)',
    text: () =>
      'Pyodide is licensed under the Mozilla Public License 2.0 (https://www.mozilla.org/en-US/MPL/2.0/), and\n' +
      'CPython, which it compiles, under the Python Software Foundation License Version 2\n' +
      '(https://docs.python.org/3/license.html). The image holds no changed source file of either.',
  },
];

/** @returns {Record<string, {version?: string, license?: string, dev?: boolean, devOptional?: boolean, optional?: boolean}>} */
export function lockFile() {
  return JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
}

/** Packages that `npm install lockstep` installs, on some platform. @returns {Package[]} */
export function npmPackages() {
  const found = Object.entries(lockFile())
    .filter(([place, { dev, devOptional }]) => place !== '' && !dev && !devOptional)
    .map(([place, { version = '', license }]) => {
      const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
      return { name, version, license: license ?? UNSTATED[name] ?? null };
    });
  const unique = new Map(found.map((one) => [`${one.name}@${one.version}`, one]));
  return [...unique.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Packages whose package.json names no license; their LICENSE file does. */
const UNSTATED = { pythonia: 'MIT' };

/** Python packages that the pin files name, as they are installed here. @returns {Package[]} */
export function pythonPackages() {
  const script = path.join(root, 'scripts', 'supply', 'python_packages.py');
  const printed = execFileSync(venvPython, [script, path.join(root, 'python')], {
    encoding: 'utf8',
  });
  return JSON.parse(printed);
}

function lockedPackage(name) {
  const { version = '', license = null } = lockFile()[`node_modules/${name}`] ?? {};
  return { version, license };
}

function readModule(file) {
  return readFileSync(path.join(root, 'node_modules', file), 'utf8').trim();
}

/** The file of an archive in src/template/packages whose name ends so. */
function unpacked(archive, ending) {
  const program =
    'import sys, tarfile, zipfile\n' +
    'file, ending = sys.argv[1:]\n' +
    'if file.endswith(".whl"):\n' +
    '    box = zipfile.ZipFile(file)\n' +
    '    print(box.read(next(n for n in box.namelist() if n.endswith(ending))).decode())\n' +
    'else:\n' +
    '    box = tarfile.open(file)\n' +
    '    print(box.extractfile(next(n for n in box.getnames() if n.endswith(ending))).read().decode())\n';
  const file = path.join(root, 'src', 'template', 'packages', archive);
  return execFileSync(venvPython, ['-c', program, file, ending], { encoding: 'utf8' }).trim();
}
