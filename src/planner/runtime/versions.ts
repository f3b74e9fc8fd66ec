// The policy runtimes that this Lockstep has, by the version that a contract names.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { LockstepError } from '../../errors.ts';

/** What a contract says of the runtime that its policy was made for. */
export interface RuntimeIdentity {
  readonly version: number;
  /** SHA-256 of the runtime's bytes. */
  readonly sha256: string;
}

/** Runtimes are never changed, only added: their SHA-256 stands in contracts. */
const known: readonly RuntimeIdentity[] = [
  { version: 1, sha256: '30b88adbdcac1bba226aa777bb731f34e7261946a614f3cc7b5e9901f5d4553f' },
];

/** The runtime that new contracts are made for. */
export const currentRuntime: RuntimeIdentity = known.at(-1) as RuntimeIdentity;

const texts = new Map<number, string>();

/**
 * Text of a runtime.
 *
 * @throws LS_POLICY_RUNTIME where this Lockstep does not have it, or has other bytes under its number
 */
export function runtimeText({ version, sha256 }: RuntimeIdentity): string {
  const own = known.find((runtime) => runtime.version === version);
  if (own === undefined || own.sha256 !== sha256) {
    throw new LockstepError(
      'LS_POLICY_RUNTIME',
      `expected a contract for policy runtime ${known.map((one) => `${one.version} (${one.sha256.slice(0, 12)}…)`).join(' or ')}, got ${version} (${sha256.slice(0, 12)}…)`,
      {
        fix: 'Update Lockstep to the version that made the contract, or make the contract again: lockstep attach MODEL --config F --out DIR',
        field: 'policy.runtime',
      },
    );
  }
  let text = texts.get(version);
  if (text === undefined) {
    const file = path.join(import.meta.dirname, `policy-runtime.v${version}.js`);
    text = readFileSync(file, 'utf8');
    const actual = createHash('sha256').update(text).digest('hex');
    if (actual !== sha256) {
      throw new LockstepError(
        'LS_POLICY_RUNTIME',
        `expected ${path.basename(file)} with SHA-256 ${sha256}, got ${actual}`,
        { fix: 'Install Lockstep again: a file of it was changed.', field: 'policy.runtime' },
      );
    }
    texts.set(version, text);
  }
  return text;
}
