// An option that has an effect only together with another one.
import { LockstepError } from '../../errors.ts';

/**
 * LS_USAGE for an option that would change nothing.
 *
 * @param option its name, without dashes; a value may follow
 * @param wanted what must be given with it
 * @param got what was given
 */
export function needs(option: string, wanted: string, got: string): LockstepError {
  return new LockstepError('LS_USAGE', `expected ${wanted} with --${option}, got ${got}`, {
    fix: `Leave --${option} out.`,
    field: option.replace(/ .*/, ''),
  });
}
