// Writes THIRD_PARTY.md: licenses of what the npm package contains and of what it installs.
// `node scripts/supply/third-party.mjs`; test/supply.test.ts fails while the file is not this.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../lib.mjs';
import { included, npmPackages, pythonPackages } from './packages.mjs';

/** @returns {string} */
export function thirdParty() {
  return `# Third-party software

Lockstep is licensed under Apache-2.0 ([LICENSE](LICENSE)). This page lists the work of others that its packages
contain or install. \`node scripts/supply/third-party.mjs\` writes it from the lock file and the installed packages.

## Contained in the npm package

${table(
  ['what', 'version', 'license', 'files', 'source'],
  included.map(({ name, version, license, files, source }) => [
    name,
    version,
    license,
    files,
    source,
  ]),
)}

The Python package contains \`quickjs-ng.wasm\` only. The license texts are [below](#license-texts).

## Installed with the npm package

${table(['package', 'version', 'license'], npmPackages().map(row))}

## Python packages

Pip installs these when you choose the parts that need them (the extras of \`python/pyproject.toml\`, or
\`npm run setup\`). vLLM and what it installs are not listed.

${table(['package', 'version', 'license'], pythonPackages().map(row))}

## License texts

${included.map(({ name, text }) => `### ${name}\n\n\`\`\`text\n${text()}\n\`\`\``).join('\n\n')}
`;
}

const row = ({ name, version, license }) => [name, version, license];

function table(heads, rows) {
  const line = (cells) => `| ${cells.map((cell) => cell ?? 'unknown').join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(path.join(root, 'THIRD_PARTY.md'), thirdParty());
}
