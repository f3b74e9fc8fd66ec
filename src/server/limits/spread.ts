// When to try again: not all at the same second.

/**
 * A `Retry-After` for one of many clients that are refused at the same time: the whole seconds from `seconds`
 * to half as much again, and at least four of them, are equally likely. Never earlier than `seconds`.
 */
export function spread(seconds: number): number {
  const least = Math.ceil(seconds);
  const width = Math.max(3, Math.floor(least / 2));
  return least + Math.floor(Math.random() * (width + 1));
}
