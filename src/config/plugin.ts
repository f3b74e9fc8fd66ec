// esbuild plugin for users' TypeScript: gives it `lockstep`, and tells definePolicy its module.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Plugin } from 'esbuild';
import { codeLoaders } from '../contract/loaders.ts';

const here = fileURLToPath(import.meta.url);
/** This package runs from src/*.ts (tests) or dist/*.js. */
const extension = path.extname(here);
const policies = path.join(path.dirname(here), '..', 'policies', `index${extension}`);
const define = path.join(path.dirname(here), `define${extension}`);
const defineServe = path.join(path.dirname(here), `define-serve${extension}`);

/**
 * Resolve `lockstep` and `lockstep/policies` to this package from wherever the importer lives, through
 * a shim for each importer whose `definePolicy` records the importer as the policy's module.
 */
export function configPlugin(): Plugin {
  return {
    name: 'lockstep-config',
    setup(builder) {
      builder.onResolve({ filter: /^lockstep(\/policies)?$/ }, ({ importer }) => ({
        path: importer,
        namespace: 'lockstep',
      }));
      builder.onLoad({ filter: /.*/, namespace: 'lockstep' }, ({ path: importer }) => ({
        contents: shim(importer),
        loader: 'js',
        resolveDir: path.dirname(policies),
      }));
      // A bundle has one import.meta; every file keeps its own.
      builder.onLoad({ filter: /\.[mc]?[jt]s$/, namespace: 'file' }, async ({ path: file }) => {
        const source = await readFile(file, 'utf8');
        if (!source.includes('import.meta')) return undefined;
        return {
          contents: withOwnMeta(source, file),
          loader: codeLoaders[path.extname(file)] ?? 'ts',
          resolveDir: path.dirname(file),
        };
      });
    },
  };
}

function shim(importer: string): string {
  const from = JSON.stringify(policies);
  return [
    `import { definePolicy as define } from ${from};`,
    `export * from ${from};`,
    `export { defineConfig } from ${JSON.stringify(define)};`,
    `export { defineServe } from ${JSON.stringify(defineServe)};`,
    'export const definePolicy = (definition) =>',
    `  define({ module: ${JSON.stringify(pathToFileURL(importer).href)}, ...definition });`,
  ].join('\n');
}

function withOwnMeta(source: string, file: string): string {
  const replacements: Readonly<Record<string, string>> = {
    url: pathToFileURL(file).href,
    filename: file,
    dirname: path.dirname(file),
  };
  return source.replace(/\bimport\.meta\.(url|filename|dirname)\b/g, (_, name: string) =>
    JSON.stringify(replacements[name]),
  );
}
