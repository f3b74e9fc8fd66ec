// Fields of a config.json, each as the kind that it has to be.
import { LockstepError } from '../errors.ts';
import { show } from '../json-text.ts';

export type Config = Readonly<Record<string, unknown>>;

/** A config.json that is being judged. */
export class Fields {
  readonly file: string;
  readonly config: Config;
  readonly #literals: Config;

  /** @param literals the same with numbers as they were written (`withLiterals`) */
  constructor(config: Config, literals: Config, file: string) {
    this.config = config;
    this.#literals = literals;
    this.file = file;
  }

  /** Where the field is absent: `absent`; where that is undefined too it is refused. */
  integer(field: string, absent?: number, least: 0 | 1 = 1): number {
    const value = this.config[field];
    if (value === undefined && absent !== undefined) return absent;
    const literal = this.#literals[field];
    if (
      typeof value === 'number' &&
      value >= least &&
      value < 2 ** 31 &&
      /^\d+$/.test(String(literal))
    ) {
      return value;
    }
    const written = typeof value === 'number' ? String(literal) : show(value);
    throw this.bad(`an integer of at least ${least} for ${field}`, written, field);
  }

  boolean(field: string, absent: boolean): boolean {
    const value = this.config[field];
    if (value === undefined) return absent;
    if (typeof value === 'boolean') return value;
    throw this.bad(`true or false for ${field}`, show(value), field);
  }

  /** A positive number of any object within the config. */
  number(value: unknown, field: string): number {
    if (typeof value === 'number' && value > 0 && value <= 2 ** 53) return value;
    throw this.bad(`a positive number for ${field}`, show(value), field);
  }

  bad(expected: string, got: string, field?: string): LockstepError {
    return new LockstepError(
      'LS_MODEL_CONFIG',
      `expected ${expected} in ${this.file}, got ${got}`,
      {
        fix: 'Copy config.json again from the original checkpoint.',
        ...(field === undefined ? {} : { field }),
      },
    );
  }
}

/** Refuse a model that is not supported. */
export function unsupported(message: string, fix: string, field: string): LockstepError {
  return new LockstepError('LS_MODEL_UNSUPPORTED', message, { fix, field });
}
