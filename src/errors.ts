// Every error that a user can cause: a stable code, one sentence, and a fix.

export interface LockstepErrorOptions {
  /** The fix: one sentence, with the command if there is one. */
  fix?: string;
  cause?: unknown;
  /** Path of the field that caused the error, as `a.b[0]`. */
  field?: string;
  /** Where in a user's source file. */
  place?: SourcePlace | undefined;
}

/** A place in a source file. */
export interface SourcePlace {
  /** Relative to the working folder. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  /** The line with its neighbours, and a mark below the column. */
  readonly frame?: string;
}

/**
 * An error that names its cause and its fix.
 *
 * `code` is stable across versions (`LS_` + area + what), `message` is one sentence with what was
 * expected and what was found, `fix` what to do about it. The CLI prints both and never a stack trace.
 */
export class LockstepError extends Error {
  override readonly name = 'LockstepError';
  readonly code: string;
  readonly fix: string | undefined;
  readonly field: string | undefined;
  readonly place: SourcePlace | undefined;

  constructor(code: `LS_${string}`, message: string, options: LockstepErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.fix = options.fix;
    this.field = options.field;
    this.place = options.place;
  }

  toJSON(): { code: string; message: string; fix?: string; field?: string; place?: SourcePlace } {
    return {
      code: this.code,
      message: this.message,
      ...(this.fix === undefined ? {} : { fix: this.fix }),
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(this.place === undefined ? {} : { place: this.place }),
    };
  }
}
