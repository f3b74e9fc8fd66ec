// JSON pointers as references of a schema use them (RFC 6901).

/** What `#/a/b` points at; undefined where nothing is. */
export function pointed(root: unknown, pointer: string): unknown {
  let here = root;
  for (const part of pointer.slice(1).split('/').slice(1)) {
    const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, name)) return undefined;
    here = (here as Record<string, unknown>)[name];
  }
  return here;
}
