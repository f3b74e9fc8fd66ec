// `/v1/files` and `/v1/batches`, in OpenAI's form.
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { Express, Request, RequestHandler, Response } from 'express';
import { HttpError } from '../errors.ts';
import { type Caller, callerOf } from '../keys/caller.ts';
import { readJson } from '../large/work.ts';
import { onlyMethods } from '../limits/middleware.ts';
import { bodyBytes } from '../requests/body.ts';
import { parseBody } from '../requests/parse.ts';
import { type Batches, ownerOf } from './batches.ts';
import { storageError } from './durable.ts';
import type { FileRecord } from './files.ts';
import { batchRequest, pageOf } from './request.ts';
import { receive } from './upload.ts';

type Handler = (batches: Batches, request: Request, response: Response) => unknown;

/**
 * Mount the routes.
 *
 * @param batches null: the server keeps none, and every route says so
 * @param bytes reads a small JSON body
 */
export function mountBatches(
  app: Express,
  batches: Batches | null,
  bytes: readonly RequestHandler[],
): void {
  const on =
    (handle: Handler): RequestHandler =>
    async (request, response) => {
      if (batches === null) throw off();
      await handle(batches, request, response);
    };
  app.get('/v1/files', on(listFiles));
  app.post('/v1/files', on(createFile));
  app.get('/v1/files/:file_id', on(getFile));
  app.delete('/v1/files/:file_id', on(deleteFile));
  app.get('/v1/files/:file_id/content', on(getContent));
  app.get('/v1/batches', on(listBatches));
  app.post('/v1/batches', [...bytes], on(createBatch));
  app.get('/v1/batches/:batch_id', on(getBatch));
  app.post('/v1/batches/:batch_id/cancel', on(cancelBatch));
  app.all('/v1/files', onlyMethods('GET', 'POST'));
  app.all('/v1/batches', onlyMethods('GET', 'POST'));
  app.all('/v1/files/:file_id', onlyMethods('GET', 'DELETE'));
  app.all('/v1/files/:file_id/content', onlyMethods('GET'));
  app.all('/v1/batches/:batch_id', onlyMethods('GET'));
  app.all('/v1/batches/:batch_id/cancel', onlyMethods('POST'));
}

const createFile: Handler = async ({ files }, request, response) => {
  const record = await receive(request, files, ownerOf(whoOf(response)));
  response.json(fileObject(record));
};

const listFiles: Handler = ({ files }, request, response) => {
  const { purpose, ...query } = request.query;
  const all = files.list(ownerOf(whoOf(response))).reverse();
  const wanted = purpose === undefined ? all : all.filter((one) => one.purpose === purpose);
  const asked = { query } as Request;
  response.json(pageOf(asked, wanted.map(fileObject), 10_000, 10_000, ['limit', 'after', 'order']));
};

const getFile: Handler = ({ files }, request, response) => {
  response.json(fileObject(fileOf(files, request, response)));
};

const deleteFile: Handler = async (batches, request, response) => {
  const { files } = batches;
  const record = fileOf(files, request, response);
  if (batches.uses(record.id)) {
    const words = `Expected a file that no batch reads any more, got ${record.id}; cancel the batch first.`;
    throw new HttpError(400, words, { code: 'file_in_use' });
  }
  await files.remove(record);
  response.json({ id: record.id, object: 'file', deleted: true });
};

const getContent: Handler = async ({ files }, request, response) => {
  const { id, bytes } = fileOf(files, request, response);
  const stream = createReadStream(files.content(id));
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve());
    stream.once('error', (error) => reject(storageError(error)));
  });
  response.set({
    'content-type': 'application/octet-stream',
    'content-length': String(bytes),
    'content-disposition': `attachment; filename="${id}.jsonl"`,
  });
  // If the client disconnects, no one is left to get an error.
  await pipeline(stream, response).catch(() => response.destroy());
};

const createBatch: Handler = async (batches, request, response) => {
  const asked = parseBody(batchRequest, readJson(bodyBytes(request)));
  response.json((await batches.create(whoOf(response), asked)).toObject());
};

const listBatches: Handler = (batches, request, response) => {
  const page = pageOf(request, batches.list(whoOf(response)), 100, 20, ['limit', 'after']);
  response.json({ ...page, data: page.data.map((batch) => batch.toObject()) });
};

const getBatch: Handler = (batches, request, response) => {
  response.json(batches.find(whoOf(response), nameIn(request, 'batch_id')).toObject());
};

const cancelBatch: Handler = async (batches, request, response) => {
  const batch = batches.find(whoOf(response), nameIn(request, 'batch_id'));
  await batch.cancel();
  response.json(batch.toObject());
};

function fileOf(files: Batches['files'], request: Request, response: Response): FileRecord {
  return files.find(ownerOf(whoOf(response)), nameIn(request, 'file_id'));
}

function nameIn(request: Request, param: string): string {
  return String(request.params[param]);
}

function whoOf(response: Response): Caller {
  return callerOf(response) as Caller;
}

function fileObject({ owner: _, ...record }: FileRecord) {
  return { object: 'file', ...record, status: 'processed', status_details: null, expires_at: null };
}

function off(): HttpError {
  const words =
    'This server keeps no batches; start it with `lockstep serve DIR --batches FOLDER`.';
  return new HttpError(404, words, { code: 'batches_off' });
}
