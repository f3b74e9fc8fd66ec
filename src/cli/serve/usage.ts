// An option of `lockstep serve` that has no place beside the others.
import { LockstepError } from '../../errors.ts';

/** LS_USAGE for a field, which is the option's name without dashes. */
export function usage(field: string, message: string, fix: string): LockstepError {
  return new LockstepError('LS_USAGE', message, { fix, field });
}
