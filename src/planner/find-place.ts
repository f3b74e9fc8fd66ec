// The place of a policy's error: the traced runtime runs the same again and has the stack.
import { LockstepError, type SourcePlace } from '../errors.ts';

/**
 * Run code of a policy; an error of the policy gets its place, where that can be found.
 *
 * @param host a traced host of the same policy, just loaded; undefined where there is none
 * @param again does in it what `run` did; without it the policy failed as it was loaded
 */
export function placed<T, Host extends { close(): void }>(
  run: () => T,
  host: () => Host | undefined,
  again: (traced: Host) => void = () => {},
): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof LockstepError) || error.place !== undefined) throw error;
    if (!error.code.startsWith('LS_POLICY_')) throw error;
    const place = placeOf(error.code, host, again);
    throw place === undefined ? error : withPlace(error, place);
  }
}

function placeOf<Host extends { close(): void }>(
  code: string,
  host: () => Host | undefined,
  again: (traced: Host) => void,
): SourcePlace | undefined {
  let traced: Host | undefined;
  try {
    traced = host();
    if (traced !== undefined) again(traced);
  } catch (error) {
    const repeated = error instanceof LockstepError && error.code === code;
    return repeated ? error.place : undefined;
  } finally {
    traced?.close();
  }
  return undefined;
}

/** The same error with a place. */
export function withPlace(error: LockstepError, place: SourcePlace): LockstepError {
  const { code, message, fix, field, cause } = error;
  return new LockstepError(code as `LS_${string}`, message, {
    ...(fix === undefined ? {} : { fix }),
    ...(field === undefined ? {} : { field }),
    ...(cause === undefined ? {} : { cause }),
    place,
  });
}
