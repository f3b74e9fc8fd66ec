// What Lockstep ships and installs: licenses, the SBOM, and what an audit does with its findings.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';

const scripts = path.join(packageRoot, 'scripts', 'supply');

/** The value of an expression over the named exports of scripts of `scripts/supply`. */
function evaluated<T>(imports: string, expression: string, input = ''): T {
  const program = `${imports}; const input = process.argv[1]; console.log(JSON.stringify(${expression}))`;
  const printed = execFileSync(
    process.execPath,
    ['--input-type=module', '-e', program, '--', input],
    { encoding: 'utf8', cwd: scripts, maxBuffer: 1 << 26 },
  );
  return JSON.parse(printed) as T;
}

describe('THIRD_PARTY.md', () => {
  test('is what the lock file and the installed packages say', () => {
    const written = evaluated<string>(
      "import { thirdParty } from './third-party.mjs'",
      'thirdParty()',
    );
    // After a change of packages: node scripts/supply/third-party.mjs
    expect(readFileSync(path.join(packageRoot, 'THIRD_PARTY.md'), 'utf8')).toBe(written);
  });

  test('has no package without a license, and none that forbids what we do', () => {
    const packages = evaluated<{ name: string; license: string | null }[]>(
      "import { included, npmPackages, pythonPackages } from './packages.mjs'",
      '[...included, ...npmPackages(), ...pythonPackages()].map(({ name, license }) => ({ name, license }))',
    );
    expect(packages.length).toBeGreaterThan(200);
    expect(packages.filter(({ license }) => !allowed(license))).toEqual([]);
    expect(allowed('MIT OR GPL-3.0-only')).toBe(true);
    expect(allowed('MIT AND GPL-3.0-only')).toBe(false);
    expect(allowed('SSPL-1.0')).toBe(false);
    expect(allowed(null)).toBe(false);
  });

  test('its contained files are in the package', () => {
    const included = evaluated<{ files: string }[]>(
      "import { included } from './packages.mjs'",
      'included.map(({ files }) => ({ files }))',
    );
    const whole = included.map(({ files }) => files).filter((file) => !file.includes('*'));
    expect(whole.length).toBe(3);
    expect(whole.filter((file) => !existsSync(path.join(packageRoot, file)))).toEqual([]);
  });
});

describe('the SBOM', () => {
  interface Bom {
    bomFormat: string;
    specVersion: string;
    metadata: { component: { name: string; version: string } };
    components: { 'bom-ref': string; name: string; version: string; purl?: string }[];
  }
  let bom: Bom;
  beforeAll(() => {
    bom = evaluated<Bom>("import { sbom } from './sbom.mjs'", 'sbom()');
  }, 120_000);

  test('is CycloneDX of this version', () => {
    const { version } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8'));
    expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5' });
    expect(bom.metadata.component).toMatchObject({ name: 'lockstep', version });
  });

  test('has every package once: npm, Python and the files inside', () => {
    const references = bom.components.map((one) => one['bom-ref']);
    expect(new Set(references).size).toBe(references.length);
    const purls = bom.components.flatMap(({ purl }) => purl ?? []);
    expect(purls.filter((purl) => /^pkg:npm\/express@/.test(purl))).toHaveLength(1);
    expect(purls.filter((purl) => /^pkg:pypi\/torch@/.test(purl))).toHaveLength(1);
    expect(references.filter((one) => one.startsWith('included:'))).toHaveLength(4);
    expect(purls.filter((purl) => purl.includes('/vitest@'))).toEqual([]);
  });
});

describe('the audit', () => {
  const npm = {
    vulnerabilities: {
      a: { via: [{ name: 'a', title: 'bad', url: 'https://github.com/advisories/GHSA-aaaa-1' }] },
      b: { via: ['a'] },
    },
  };
  const pip = {
    dependencies: [
      { name: 'x', version: '1', vulns: [{ id: 'PYSEC-1', aliases: ['CVE-1'] }] },
      { name: 'y', version: '2', vulns: [] },
    ],
  };
  const imports = "import { npmFindings, pipFindings, unexplained } from './audit.mjs'";

  test('finds the advisories of npm audit and pip-audit', () => {
    expect(evaluated(imports, 'npmFindings(input)', `npm warn x\n${JSON.stringify(npm)}`)).toEqual([
      { ids: ['GHSA-aaaa-1'], what: 'a: bad' },
    ]);
    expect(evaluated(imports, 'pipFindings(input)', JSON.stringify(pip))).toEqual([
      { ids: ['PYSEC-1', 'CVE-1'], what: 'x 1' },
    ]);
  });

  test('does not take a missing answer for a clean one', () => {
    const refused = JSON.stringify({ message: '405', statusCode: 405 });
    expect(evaluated(imports, 'npmFindings(input)', refused)).toBeNull();
    expect(evaluated(imports, 'pipFindings(input)', 'connection refused')).toBeNull();
    const skipped = JSON.stringify({ dependencies: [{ name: 'x', skip_reason: 'not found' }] });
    expect(evaluated(imports, 'pipFindings(input)', skipped)).toBeNull();
  });

  test('an advisory passes only if the page names it', () => {
    const left = (text: string) =>
      evaluated<unknown[]>(
        imports,
        `unexplained(pipFindings(${JSON.stringify(JSON.stringify(pip))}), input)`,
        text,
      );
    expect(left('CVE-1 does not apply')).toEqual([]);
    expect(left('CVE-2 does not apply')).toHaveLength(1);
  });
});

/** Whether a license lets us install and pass on the package as Lockstep does. */
function allowed(license: string | null): boolean {
  const fine =
    /^(MIT|MIT-0|MIT-CMU|ISC|0BSD|BSD-[23]-Clause|Apache-2\.0|BSL-1\.0|MPL-2\.0|PSF-2\.0|Python-2\.0|CC0-1\.0|Unlicense|Zlib|BlueOak-1\.0\.0|CNRI-Python|LGPL-2\.1-or-later)( WITH LLVM-exception)?$/;
  const expression = (license ?? '').replace(/[()]/g, '');
  return expression
    .split(' AND ')
    .every((part) => part.split(' OR ').some((one) => fine.test(one.trim())));
}
