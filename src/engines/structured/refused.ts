// What is said of a JSON schema that is not supported.
import { LockstepError } from '../../errors.ts';

/** A place below another. */
export function at(path: string, name: string | number): string {
  return `${path}/${name}`;
}

/** @param expected what should stand there */
export function refused(path: string, expected: string): LockstepError {
  return new LockstepError(
    'LS_FORM_SCHEMA',
    `expected ${expected} at ${path === '' ? 'the root' : shown(path)} of the JSON schema`,
    {
      mend: 'Use the rules that docs/http-api.md lists, or serve with --engine vllm, which follows more.',
    },
  );
}

/** Paths through references may be long. */
function shown(path: string): string {
  return path.length <= 200 ? path : `${path.slice(0, 200)}...`;
}
