// What a client may ask of `/v1/batches`, and the pages of lists.
import type { Request } from 'express';
import { z } from 'zod';
import { invalid } from '../errors.ts';
import { metadata } from '../requests/metadata.ts';
import { ENDPOINTS } from './line.ts';

const UNITS = { s: 1, m: 60, h: 3600, d: 24 * 3600 } as const;
const LONGEST_DAYS = 30;

export const batchRequest = z.strictObject({
  input_file_id: z.string(),
  endpoint: z.enum(ENDPOINTS),
  /** A whole number and its unit, as `24h`. */
  completion_window: z.string().regex(/^[1-9][0-9]{0,6}[smhd]$/, 'expected a time, as 24h'),
  metadata: metadata.optional(),
});

export type BatchRequest = z.infer<typeof batchRequest>;

/** @throws HttpError 400 */
export function secondsOf(window: string): number {
  const seconds = Number.parseInt(window, 10) * UNITS[window.at(-1) as keyof typeof UNITS];
  if (seconds <= LONGEST_DAYS * UNITS.d) return seconds;
  const words = `\`completion_window\`: expected at most ${LONGEST_DAYS}d, got ${window}.`;
  throw invalid('completion_window', words);
}

export interface Page<T> {
  object: 'list';
  data: T[];
  first_id: string | null;
  last_id: string | null;
  has_more: boolean;
}

/** A page of a list, as `limit`, `after` and, for files, `order` ask for it. @throws HttpError 400 */
export function pageOf<T extends { id: string }>(
  { query }: Request,
  newestFirst: readonly T[],
  most: number,
  usual: number,
  fields: readonly string[],
): Page<T> {
  for (const [name, value] of Object.entries(query)) {
    if (!fields.includes(name)) {
      const shown = name.slice(0, 80);
      throw invalid(
        shown,
        `Expected the parameters ${fields.join(', ')}, got \`${shown}\`.`,
        'unknown_parameter',
      );
    }
    if (typeof value !== 'string') throw invalid(name, `\`${name}\` is given more than once.`);
  }
  const { limit = String(usual), after, order = 'desc' } = query as Record<string, string>;
  const count = /^[0-9]{1,6}$/.test(limit) ? Number(limit) : 0;
  if (count < 1 || count > most) {
    throw invalid('limit', `\`limit\`: expected a whole number from 1 to ${most}.`);
  }
  if (order !== 'asc' && order !== 'desc') {
    throw invalid('order', '`order`: expected `asc` or `desc`.');
  }
  const all = order === 'asc' ? [...newestFirst].reverse() : newestFirst;
  const at = after === undefined ? -1 : all.findIndex(({ id }) => id === after);
  if (after !== undefined && at === -1) {
    throw invalid('after', '`after`: expected the id of an entry of this list.');
  }
  const data = all.slice(at + 1, at + 1 + count);
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: at + 1 + count < all.length,
  };
}
