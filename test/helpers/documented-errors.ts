// The errors of HTTP that the docs list.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

/** @param status none for an error within a stream, which has no status of its own */
export type Documented = (code: string, status?: number) => boolean;

/**
 * Read the tables of docs/http-api.md and docs/serving-keys.md (status, codes) and the codes of docs/errors.md.
 * A code of a table counts only with its status; one of docs/errors.md with any.
 */
export function documentedErrors(): Documented {
  const page = (name: string) => readFileSync(path.join(packageRoot, 'docs', name), 'utf8');
  const section = (name: string, title: string) => {
    const [, text] = page(name).split(`\n## ${title}\n`);
    if (text === undefined) throw new Error(`expected a section "${title}" in docs/${name}`);
    return text.split('\n## ')[0] as string;
  };
  const statuses = new Map<string, number[]>();
  const tables =
    section('http-api.md', 'Status codes') +
    section('serving-keys.md', 'Requests that are refused');
  for (const [, status, codes] of tables.matchAll(/^\| (\d{3}) \| ([^|]*)\|/gm)) {
    for (const [, code] of (codes as string).matchAll(/`([a-z_]+)`/g)) {
      const known = statuses.get(code as string) ?? [];
      statuses.set(code as string, [...known, Number(status)]);
    }
  }
  const own = new Set([...page('errors.md').matchAll(/LS_[A-Z0-9_]+/g)].map(([code]) => code));
  return (code, status) => {
    if (own.has(code)) return true;
    const listed = statuses.get(code);
    return listed !== undefined && (status === undefined || listed.includes(status));
  };
}
