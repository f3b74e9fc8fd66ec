// Asks the registries for known vulnerabilities: `npm audit` of the project and of docs/site, and pip-audit of
// the Python pins. Exit 1 if an advisory is found that docs/supply-chain.md does not explain. A registry that
// does not answer is reported and does not fail. `node scripts/supply/audit.mjs`
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { report, root, run, SetupError, say, venvPython, work } from '../lib.mjs';

const PIP_AUDIT = 'pip-audit==2.10.1';
const page = path.join(root, 'docs', 'supply-chain.md');

/** @typedef {{ids: string[], what: string}} Finding */

/**
 * Advisories in the output of `npm audit --json`; null if the registry gave none of its answers.
 * @param {string} output
 * @returns {Finding[] | null}
 */
export function npmFindings(output) {
  const vulnerabilities = parsed(output)?.vulnerabilities;
  if (vulnerabilities === undefined) return null;
  const advisories = Object.values(vulnerabilities)
    .flatMap(({ via }) => via)
    .filter((one) => typeof one === 'object');
  return advisories.map(({ name, title, url = '' }) => ({
    ids: url.match(/GHSA-[\w-]+/g) ?? [url],
    what: `${name}: ${title}`,
  }));
}

/**
 * Advisories in the output of `pip-audit -f json`; null if it has none of its answers.
 * @param {string} output
 * @returns {Finding[] | null}
 */
export function pipFindings(output) {
  const packages = parsed(output)?.dependencies;
  // A package index without vulnerability data makes pip-audit skip every package.
  if (packages === undefined || packages.every((one) => one.skip_reason !== undefined)) return null;
  return packages.flatMap(({ name, version, vulns = [] }) =>
    vulns.map(({ id, aliases = [] }) => ({ ids: [id, ...aliases], what: `${name} ${version}` })),
  );
}

/**
 * Findings none of whose ids `text` names.
 * @param {Finding[]} findings
 * @param {string} text
 */
export function unexplained(findings, text) {
  return findings.filter(({ ids }) => !ids.some((id) => text.includes(id)));
}

function parsed(output) {
  const start = output.indexOf('{');
  if (start === -1) return undefined;
  try {
    return JSON.parse(output.slice(start, output.lastIndexOf('}') + 1));
  } catch {
    return undefined;
  }
}

async function npmAudit(folder) {
  const args = ['audit', '--json', '--package-lock-only', '--loglevel=silent'];
  return npmFindings((await run('npm', args, { quiet: true, cwd: folder })).output);
}

/** pip-audit stands in an environment of its own, so that it is not part of what it audits. */
async function pipAudit() {
  const environment = path.join(work, 'audit');
  const tool = path.join(environment, 'bin', 'pip-audit');
  if (!existsSync(tool)) {
    await run(venvPython, ['-m', 'venv', environment], { quiet: true });
    const pip = path.join(environment, 'bin', 'pip');
    const { code } = await run(pip, ['install', '--quiet', PIP_AUDIT], { quiet: true });
    if (code !== 0) return null;
  }
  const files = ['constraints.txt', 'requirements.txt', 'requirements-tools.txt'];
  const pins = files.flatMap((name) => ['-r', path.join(root, 'python', name)]);
  const args = ['--no-deps', '--disable-pip', '--format=json', '--progress-spinner=off', ...pins];
  return pipFindings((await run(tool, args, { quiet: true })).output);
}

async function main() {
  const audits = [
    ['npm audit', () => npmAudit(root)],
    ['npm audit (docs/site)', () => npmAudit(path.join(root, 'docs', 'site'))],
    ['pip-audit', pipAudit],
  ];
  const explained = readFileSync(page, 'utf8');
  const open = [];
  for (const [name, audit] of audits) {
    const findings = await audit();
    if (findings === null) {
      say(`${name}: no answer from the registry; nothing was checked`);
      continue;
    }
    const left = unexplained(findings, explained);
    say(`${name}: ${findings.length} advisories, ${left.length} of them not explained`);
    open.push(...left);
  }
  if (open.length === 0) return;
  throw new SetupError(
    'LS_SETUP_AUDIT',
    `expected docs/supply-chain.md to explain every advisory, got new ones: ${open.map(({ ids, what }) => `${ids[0]} (${what})`).join(', ')}`,
    'update the package, or explain in docs/supply-chain.md why the advisory does not apply.',
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main().catch(report);
}
