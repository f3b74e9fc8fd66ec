// JSON pointers as references of a schema use them (RFC 6901).

/** What `#` or `#/a/b` points at; undefined where nothing is, and for names (`#a`) and other documents. */
export function pointed(root: unknown, pointer: string): unknown {
  if (!/^#(\/|$)/.test(pointer)) return undefined;
  let here = root;
  let path: string;
  try {
    path = decodeURIComponent(pointer.slice(1));
  } catch {
    return undefined;
  }
  for (const part of path.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, name)) return undefined;
    here = (here as Record<string, unknown>)[name];
  }
  return here;
}
