// The page at `/`: the static files of ../page, nothing from elsewhere.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import express, { type RequestHandler } from 'express';

/** `npm run build` copies it beside the compiled module (scripts/copy-assets.mjs). */
const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '../page');

/** Serves index.html at `/` and its files below `/page/`. */
export function page(): { index: RequestHandler; files: RequestHandler } {
  return {
    index: (_request, response) => {
      response.sendFile('index.html', { root: folder, cacheControl: false });
    },
    files: express.static(folder, { index: false, redirect: false, cacheControl: false }),
  };
}
