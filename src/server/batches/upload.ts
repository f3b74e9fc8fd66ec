// `POST /v1/files`: a body of multipart/form-data, its file written to the disk as it comes.
import type { Request } from 'express';
import { HttpError, invalid } from '../errors.ts';
import type { FileRecord, FileStore, Upload } from './files.ts';
import { boundaryOf, type PartHead, partsOf } from './multipart.ts';

/** Most bytes of one file, as at OpenAI. */
export const MOST_FILE_BYTES = 200 * 1024 * 1024;
/** Most bytes of a field that is no file. */
const MOST_FIELD_BYTES = 1024;
const MOST_PARTS = 16;
const MOST_NAME = 255;

/**
 * Write the upload down.
 *
 * @throws HttpError 400, 413, 415, 507; nothing of the file is kept then
 */
export async function receive(
  request: Request,
  store: FileStore,
  owner: string,
): Promise<FileRecord> {
  checkHead(request, store);
  const boundary = boundaryOf(request.get('content-type') ?? '');
  const form = new Form(store);
  try {
    // The connection stays for the answer.
    const body = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    for await (const event of partsOf(body, boundary)) {
      if (event.type === 'head') await form.begin(event);
      else if (event.type === 'data') await form.write(event.bytes);
    }
    return await form.finish(owner);
  } catch (error) {
    await form.abandon();
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    const words = 'The body ended before its announced length.';
    throw new HttpError(400, words, { code: 'body_incomplete' });
  }
}

function checkHead(request: Request, store: FileStore): void {
  const encoding = request.get('content-encoding') ?? 'identity';
  if (encoding !== 'identity' && encoding !== '') {
    const words = 'Expected a file without `content-encoding`.';
    throw new HttpError(415, words, { code: 'unsupported_encoding' });
  }
  // A form on a foreign page can post here, unlike JSON; browsers say where it is from.
  const origin = request.get('origin');
  if (origin !== undefined && !isOwn(origin, request.get('host') ?? '')) {
    const words = `Expected a request of this server's own page or of a program, got one from ${origin.slice(0, 80)}.`;
    throw new HttpError(403, words, { code: 'foreign_origin' });
  }
  const most = Math.min(MOST_FILE_BYTES, store.limit);
  if (Number(request.get('content-length') ?? 0) > most + 64 * 1024) throw tooLargeFile(most);
}

function isOwn(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host.toLowerCase() === host.toLowerCase();
}

/** What has come of the form so far. */
class Form {
  readonly #store: FileStore;
  readonly #most: number;
  #part: PartHead | null = null;
  #parts = 0;
  #field: Buffer[] = [];
  #fieldBytes = 0;
  #upload: Upload | null = null;
  #filename = '';

  constructor(store: FileStore) {
    this.#store = store;
    this.#most = Math.min(MOST_FILE_BYTES, store.limit);
  }

  async begin(part: PartHead): Promise<void> {
    this.#parts += 1;
    if (this.#parts > MOST_PARTS) throw invalid(null, `Expected at most ${MOST_PARTS} fields.`);
    const { name, filename } = part;
    if (name !== 'file' && name !== 'purpose') throw unknownField(name);
    if (
      this.#part?.name === name ||
      (name === 'file' ? this.#upload !== null : this.#fieldBytes > 0)
    ) {
      throw invalid(name, `\`${name}\` is given more than once.`);
    }
    if (name === 'file') {
      if (filename === null) {
        throw invalid('file', '`file`: expected a file with a name, got a text.', 'invalid_type');
      }
      this.#filename = filename.slice(0, MOST_NAME);
      this.#upload = await this.#store.begin();
    }
    this.#part = part;
  }

  async write(bytes: Buffer): Promise<void> {
    if (this.#part?.name === 'file' && this.#upload !== null) {
      if (this.#upload.bytes + bytes.length > this.#most) throw tooLargeFile(this.#most);
      await this.#upload.write(bytes);
      return;
    }
    this.#fieldBytes += bytes.length;
    if (this.#fieldBytes > MOST_FIELD_BYTES) {
      throw invalid(
        'purpose',
        `\`purpose\`: expected at most ${MOST_FIELD_BYTES} bytes, got more.`,
      );
    }
    this.#field.push(bytes);
  }

  async finish(owner: string): Promise<FileRecord> {
    const upload = this.#upload;
    if (upload === null) throw missing('file', 'a file');
    if (this.#fieldBytes === 0) throw missing('purpose', '`batch`');
    const purpose = Buffer.concat(this.#field).toString('utf8');
    if (purpose !== 'batch') {
      throw invalid('purpose', '`purpose`: expected `batch`, got another one.');
    }
    if (upload.bytes === 0) {
      throw invalid('file', '`file`: expected at least one line, got an empty file.', 'empty_file');
    }
    return upload.finish(owner, this.#filename);
  }

  async abandon(): Promise<void> {
    await this.#upload?.abandon();
  }
}

function missing(param: string, expected: string): HttpError {
  return invalid(param, `\`${param}\`: expected ${expected}, got nothing.`, 'missing_parameter');
}

function unknownField(name: string): HttpError {
  const shown = name.slice(0, 80);
  if (/^expires_after\b/.test(name)) {
    const words = `This server does not support \`${shown}\`; it keeps files until they are deleted.`;
    return invalid(shown, words, 'unsupported_parameter');
  }
  const words = `Expected the fields \`file\` and \`purpose\`, got \`${shown}\`.`;
  return invalid(shown, words, 'unknown_parameter');
}

function tooLargeFile(most: number): HttpError {
  return new HttpError(413, `Expected a file of at most ${most} bytes, got a larger one.`, {
    param: 'file',
    code: 'file_too_large',
  });
}
