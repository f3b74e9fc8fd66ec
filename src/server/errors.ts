// OpenAI's error body, and how every failure becomes one.
import { isEngineLost } from '../engines/stepped.ts';
import { LockstepError } from '../errors.ts';

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface HttpErrorOptions {
  /** OpenAI's error class; `invalid_request_error` unless given. */
  type?: string;
  /** The request field to blame, as `messages[0].content`. */
  param?: string | null;
  code?: string;
  /** Seconds after which trying again makes sense (HTTP `Retry-After`). */
  retryAfter?: number;
  cause?: unknown;
}

/** A failure with the HTTP status and the words that a client is to get. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  readonly retryAfter: number | undefined;

  constructor(status: number, message: string, options: HttpErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = status;
    this.type = options.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error');
    this.param = options.param ?? null;
    this.code = options.code ?? null;
    this.retryAfter = options.retryAfter;
  }

  body(): ErrorBody {
    return {
      error: { message: this.message, type: this.type, param: this.param, code: this.code },
    };
  }
}

/** 400 that names the field. */
export function invalid(param: string | null, message: string, code = 'invalid_value'): HttpError {
  return new HttpError(400, message, { param, code });
}

/** 429 with `Retry-After`. */
export function busy(message: string, retryAfter: number, code = 'too_many_requests'): HttpError {
  return new HttpError(429, message, {
    type: 'rate_limit_error',
    code,
    retryAfter: Math.max(1, Math.ceil(retryAfter)),
  });
}

/** 413 for a body above the limit. */
export function tooLarge(limit: number): HttpError {
  return new HttpError(413, `Expected a body of at most ${limit} bytes, got a larger one.`, {
    code: 'body_too_large',
  });
}

/** Errors of our own with another status than 500, and after how many seconds to try again. */
const STATUS: Record<string, { status: number; retryAfter?: number }> = {
  LS_VLLM_REFUSED: { status: 400 },
  LS_FORM_SCHEMA: { status: 400 },
  LS_FORM_OPTIONS: { status: 400 },
  LS_FORM_SIZE: { status: 400 },
  LS_FORM_TOKENS: { status: 400 },
  LS_FORM_ENDS: { status: 400 },
  LS_VLLM_PROTOCOL: { status: 502 },
  LS_VLLM_FAILED: { status: 502 },
  LS_VLLM_NOT_READY: { status: 503, retryAfter: 5 },
  LS_VLLM_UNREACHABLE: { status: 503, retryAfter: 5 },
  LS_VLLM_DIED: { status: 503, retryAfter: 5 },
  LS_VLLM_STALLED: { status: 504 },
  // The template's fault or the conversation's: only another conversation may help.
  LS_TEMPLATE_LIMIT: { status: 400 },
  LS_TEMPLATE_SYNTAX: { status: 400 },
  LS_TEMPLATE_START: { status: 503, retryAfter: 5 },
  // The text's fault: it has a token that the model does not know, or cannot be parted.
  LS_TOKEN_RANGE: { status: 400 },
  LS_TEXT_UNSPLITTABLE: { status: 400 },
};

/** Shape of the errors that body-parser (Express) raises. */
interface ParserError {
  type?: string;
  status?: number;
  statusCode?: number;
  limit?: number;
  message?: string;
  charset?: string;
}

function fromBodyParser(error: ParserError): HttpError | null {
  switch (error.type) {
    case 'entity.parse.failed':
      return new HttpError(400, `Expected a JSON object as the body: ${error.message ?? ''}`, {
        code: 'invalid_json',
      });
    case 'entity.too.large':
      return tooLarge(error.limit ?? 0);
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return unsupportedEncoding();
    case 'request.aborted':
    case 'request.size.invalid':
      return new HttpError(400, 'The body ended before its announced length.', {
        code: 'body_incomplete',
      });
    default:
      return null;
  }
}

/**
 * What a client gets for `error`. Our own errors have messages written for users. Anything else is a
 * defect, and its details stay in the log.
 */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof LockstepError) {
    const sentence = /[.!?]$/.test(error.message) ? error.message : `${error.message}.`;
    const words = error.fix === undefined ? sentence : `${sentence} ${error.fix}`;
    if (error.code === 'LS_ENGINE_SESSIONS') {
      return new HttpError(429, words, {
        type: 'rate_limit_error',
        code: error.code,
        retryAfter: 1,
        cause: error,
      });
    }
    if (isEngineLost(error)) {
      const ended = `The model's engine has stopped: ${sentence}`;
      return new HttpError(503, `${ended} Start the server again: lockstep serve.`, {
        code: error.code,
        cause: error,
      });
    }
    const known = STATUS[error.code];
    if (known !== undefined) {
      const { status, ...more } = known;
      return new HttpError(status, words, {
        ...more,
        code: error.code,
        param: error.field ?? null,
        cause: error,
      });
    }
    return new HttpError(500, words, { code: error.code, cause: error });
  }
  const parsed = fromBodyParser((error ?? {}) as ParserError);
  if (parsed !== null) return parsed;
  const status = (error as ParserError | null)?.status;
  if (status !== undefined && status >= 400 && status < 500) {
    return new HttpError(status, 'The request cannot be read.', {
      code: 'bad_request',
      cause: error,
    });
  }
  return new HttpError(500, 'Internal server error. Search the server log for this request ID.', {
    code: 'internal_error',
    cause: error,
  });
}

/** A body in another charset than UTF-8, or compressed in a way that is not supported. */
export function unsupportedEncoding(): HttpError {
  return new HttpError(
    415,
    'Expected a UTF-8 JSON body with a supported charset and content encoding.',
    { code: 'unsupported_encoding' },
  );
}
