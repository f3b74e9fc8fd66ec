// Every error that a user can cause: a stable code, one sentence, and a fix.

export interface LockstepErrorOptions {
  /** The fix: one sentence, with the command if there is one. */
  mend?: string;
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
 * expected and what came, `mend` is the fix. The CLI prints both and never a stack trace.
 */
export class LockstepError extends Error {
  override readonly name = 'LockstepError';
  readonly code: string;
  readonly mend: string | undefined;
  readonly field: string | undefined;
  readonly place: SourcePlace | undefined;

  constructor(code: `LS_${string}`, message: string, options: LockstepErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.mend = options.mend;
    this.field = options.field;
    this.place = options.place;
  }

  toJSON(): { code: string; message: string; mend?: string; field?: string; place?: SourcePlace } {
    return {
      code: this.code,
      message: this.message,
      ...(this.mend === undefined ? {} : { mend: this.mend }),
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(this.place === undefined ? {} : { place: this.place }),
    };
  }
}
