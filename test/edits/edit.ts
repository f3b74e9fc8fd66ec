// A change by hand of one file of a checkpoint, and how such changes are written.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface Edit {
  /** File of the checkpoint that is changed. */
  file: string;
  /** What is changed, for the table: short Markdown. */
  name: string;
  /** Change the checkpoint in `dir`, a copy that nothing else uses. */
  edit(dir: string): void;
}

// biome-ignore lint/suspicious/noExplicitAny: documents of every kind are changed here
export type Document = any;

/** Change a JSON document in place. */
export function changed(file: string, name: string, change: (document: Document) => void): Edit {
  return rewritten(file, name, (text) => {
    const document = JSON.parse(text) as Document;
    change(document);
    return JSON.stringify(document);
  });
}

/** A top-level field of a JSON file; undefined removes it. */
export function set(file: string, field: string, value: unknown): Edit {
  const name =
    value === undefined ? `no \`${field}\`` : `\`${field}\`: \`${JSON.stringify(value)}\``;
  return changed(file, name, (document) => {
    document[field] = value;
  });
}

/** Change the text of a file; bytes for what is no UTF-8. */
export function rewritten(
  file: string,
  name: string,
  change: (text: string) => string | Uint8Array,
): Edit {
  return {
    file,
    name,
    edit: (dir) => {
      const place = path.join(dir, file);
      const text = readFileSync(place, 'utf8');
      // Copies may be links: a file is replaced, not written through.
      rmSync(place);
      writeFileSync(place, change(text));
    },
  };
}

export function removed(file: string): Edit {
  return { file, name: 'removed', edit: (dir) => rmSync(path.join(dir, file)) };
}
