// Writes the SBOM, CycloneDX 1.5 in JSON: what npm says of the lock file, the Python packages, and the files of
// others inside the package. `node scripts/supply/sbom.mjs [FILE]`, by default .lockstep/lockstep.cdx.json.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, say, work } from '../lib.mjs';
import { included, pythonPackages } from './packages.mjs';

export function sbom() {
  const bom = JSON.parse(
    execFileSync(
      'npm',
      ['sbom', '--sbom-format=cyclonedx', '--package-lock-only', '--omit=dev', '--loglevel=error'],
      {
        cwd: root,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
        shell: process.platform === 'win32',
      },
    ),
  );
  // npm takes the name of the folder.
  bom.metadata.component.name = 'lockstep';
  bom.components.push(...pythonPackages().map(pythonComponent), ...included.map(includedComponent));
  return bom;
}

function pythonComponent({ name, version, license }) {
  const purl = `pkg:pypi/${name}@${version}`;
  return {
    'bom-ref': purl,
    type: 'library',
    name,
    version,
    // Which of them are installed depends on the parts that somebody chooses.
    scope: 'optional',
    purl,
    licenses: [{ expression: license }],
  };
}

function includedComponent({ name, version, license, files }) {
  return {
    'bom-ref': `included:${name}@${version}`,
    type: 'file',
    name,
    version,
    scope: 'required',
    licenses: [{ expression: license }],
    properties: [{ name: 'lockstep:files', value: files }],
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const file = path.resolve(process.argv[2] ?? path.join(work, 'lockstep.cdx.json'));
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(sbom(), null, 2)}\n`);
  say(`wrote ${path.relative(root, file)}`);
}
