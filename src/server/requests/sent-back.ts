// Answers that clients send back: what their libraries add to them says nothing new.
import { z } from 'zod';

/** A field that a client library computed from a text in the same message. */
export const parsedByClient = z.unknown().optional();

/**
 * An object as it came, without the fields that are null: a library writes out every field that it knows,
 * and null for those that the answer did not have.
 *
 * @param content whether `content` stays where it is null
 */
export function withoutNulls(value: unknown, content = false): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const fields = Object.entries(value);
  return Object.fromEntries(
    fields.filter(([name, one]) => one !== null || (content && name === 'content')),
  );
}
