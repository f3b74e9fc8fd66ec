// The error of a call that has to fail.
import { inspect } from 'node:util';
import type { LockstepError } from '../../src/errors.ts';

/** What `work` fails with; it is an error of the test where it does not. */
export const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${inspect(value)}`);
    },
    (error) => error as LockstepError,
  );
