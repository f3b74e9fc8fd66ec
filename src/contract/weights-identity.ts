// Whose weights a checkpoint holds: the SHA-256 of every file, and of all of them together.
import { canonicalJson, sha256 } from './digest.ts';
import type { WeightsIdentity } from './schema-weights.ts';

/** The identity of files whose SHA-256 are known. The same tensors in other files are others. */
export function identityOf(files: Readonly<Record<string, string>>): WeightsIdentity {
  return { sha256: sha256(canonicalJson(files)), files };
}
