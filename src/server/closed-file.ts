// Files that hold secrets must be closed to the other users of the machine.
import { LockstepError } from '../errors.ts';

/**
 * @param others bits of the mode that must not be set
 * @throws `code` where one is
 */
export function checkClosed(
  mode: number,
  others: number,
  file: string,
  code: 'LS_KEYS_MODE' | 'LS_SERVE_TLS',
  field?: string,
): void {
  // Windows has other means than modes.
  if (process.platform === 'win32' || (mode & others) === 0) return;
  const got = (mode & 0o777).toString(8).padStart(4, '0');
  throw new LockstepError(
    code,
    `expected ${file} to be inaccessible to other users, got mode ${got}`,
    {
      fix: `Remove their access: chmod 600 ${file}`,
      ...(field === undefined ? {} : { field }),
    },
  );
}
