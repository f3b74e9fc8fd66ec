// `/openapi.json`: the description of this interface, docs/openapi.json as it stands in the package.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { RequestHandler } from 'express';
import { packageRoot } from '../../paths.ts';

export const openapiFile = path.join(packageRoot, 'docs', 'openapi.json');

/** Answers with the file. */
export function openapi(): RequestHandler {
  // Read at the first request: a package without its documentation serves all the same.
  let text: string | null = null;
  return (_request, response) => {
    text ??= readFileSync(openapiFile, 'utf8');
    response.type('application/json').send(text);
  };
}
