// .venv with pinned requirements, and the Python half itself.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fingerprint, root, run, SetupError, say, venv, venvPython } from '../lib.mjs';

const python = (name) => path.join(root, 'python', name);
const files = [
  'requirements.txt',
  'requirements-dev.txt',
  'constraints.txt',
  'pyproject.toml',
  'setup.py',
];
const marker = path.join(venv, '.lockstep-requirements');

export async function pip(args, what) {
  const { code, output } = await run(
    venvPython,
    ['-m', 'pip', '--disable-pip-version-check', '--no-input', ...args],
    { quiet: true },
  );
  if (code === 0) return;
  if (/No space left on device/.test(output)) {
    throw new SetupError(
      'LS_SETUP_DISK',
      `the disk is full while installing ${what}.`,
      'free some space, then run npm run setup again.',
    );
  }
  if (/HASHES|hash/i.test(output) && /do not match/i.test(output)) {
    throw new SetupError(
      'LS_SETUP_CHECKSUM',
      `expected ${what} with the recorded SHA-256, got other bytes from the registry.`,
      'do not use what was fetched; check which package index pip is set to.',
    );
  }
  const network = /Connection|timed out|Temporary failure|No matching distribution|SSLError/i.test(
    output,
  );
  throw new SetupError(
    network ? 'LS_SETUP_NETWORK' : 'LS_SETUP_PIP',
    `pip did not succeed with ${what}: ${output
      .trim()
      .split('\n')
      .filter((l) => !l.startsWith('WARNING'))
      .slice(-3)
      .join(' | ')}`,
    network
      ? 'check the network and the package index that pip is set to, then run npm run setup again.'
      : `run ${path.relative(root, venvPython)} -m pip ${args.join(' ')} to see its full output.`,
  );
}

export async function setUpPython({ force, systemPython }) {
  const wanted = fingerprint(files.map(python));
  if (
    !force &&
    existsSync(venvPython) &&
    existsSync(marker) &&
    readFileSync(marker, 'utf8') === wanted
  ) {
    return;
  }
  if (!existsSync(venvPython) || force) {
    const { name, version } = systemPython();
    say(`python environment: .venv with Python ${version}`);
    rmSync(venv, { recursive: true, force: true });
    const made = await run(name, ['-m', 'venv', venv], { quiet: true });
    if (made.code !== 0) {
      throw new SetupError(
        'LS_SETUP_VENV',
        `${name} could not make .venv: ${made.output.trim().split('\n').slice(-2).join(' | ')}`,
        'on Debian install python3-venv; then run npm run setup again.',
      );
    }
  }
  say('python packages: torch, transformers and the rest (a few minutes the first time)');
  // torch first and by its exact pin: another package's open range would choose the newest CUDA build.
  const torch = readFileSync(python('requirements.txt'), 'utf8').match(/^torch==.*$/m)[0];
  await pip(['install', torch, '-c', python('constraints.txt')], 'torch');
  await pip(
    ['install', '-r', python('requirements.txt'), '-r', python('requirements-dev.txt')],
    'the Python requirements',
  );
  await pip(
    ['install', '--no-deps', '--no-build-isolation', '-e', path.join(root, 'python')],
    'lockstep',
  );
  writeFileSync(marker, wanted);
}
