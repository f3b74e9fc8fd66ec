// An option that does something only beside another one.
import { LockstepError } from '../../errors.ts';

/**
 * LS_USAGE for an option that would change nothing.
 *
 * @param option its name, without dashes; a value may follow
 * @param wanted what it needs beside it
 * @param got what stands there
 */
export function needs(option: string, wanted: string, got: string): LockstepError {
  return new LockstepError('LS_USAGE', `expected ${wanted} with --${option}, got ${got}`, {
    fix: `Leave --${option} out.`,
    field: option.replace(/ .*/, ''),
  });
}
