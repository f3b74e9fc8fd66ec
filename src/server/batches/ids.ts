// Names of files and batches. Only what has this form ever becomes part of a path.
import { randomBytes } from 'node:crypto';
import { HttpError } from '../errors.ts';

const FILE = /^file-[0-9a-f]{24}$/;
const BATCH = /^batch_[0-9a-f]{24}$/;

export const newFileId = (): string => `file-${randomBytes(12).toString('hex')}`;
export const newBatchId = (): string => `batch_${randomBytes(12).toString('hex')}`;
export const newLineId = (): string => `batch_req_${randomBytes(12).toString('hex')}`;

export const isFileId = (text: string): boolean => FILE.test(text);
export const isBatchId = (text: string): boolean => BATCH.test(text);

/** The same for what never was, what is gone and what belongs to another key. */
export function unknown(what: 'file' | 'batch', id: string, param: string | null): HttpError {
  const name = id.length > 60 ? `${id.slice(0, 60)}…` : id;
  const words = `Expected the id of a ${what} of this key, got \`${name}\`.`;
  return new HttpError(404, words, { param, code: `${what}_not_found` });
}

export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
