// How esbuild reads a user's source files, by extension.
import type { Loader } from 'esbuild';

export const codeLoaders: Readonly<Record<string, Loader>> = {
  '.ts': 'ts',
  '.mts': 'ts',
  '.cts': 'ts',
  '.js': 'js',
  '.mjs': 'js',
  '.cjs': 'js',
};
