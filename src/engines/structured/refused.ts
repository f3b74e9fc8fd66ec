// What is said of a JSON schema that is not supported.
import { LockstepError } from '../../errors.ts';

/** A place below another. */
export function at(path: string, name: string | number): string {
  return `${path}/${name}`;
}

/** @param expected what should stand there */
export function refused(path: string, expected: string): LockstepError {
  // Paths through references may be long.
  const shown = path.length <= 200 ? path : `${path.slice(0, 200)}...`;
  return new LockstepError(
    'LS_FORM_SCHEMA',
    `expected ${expected} at ${shown === '' ? 'the root' : shown} of the JSON schema`,
    {
      fix: 'Use the keywords that docs/http-api.md lists, or serve with --engine vllm, which supports more.',
    },
  );
}
