// The table of cases names tests that exist, and every input that lies here.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { requests } from './requests.ts';
import { table } from './table.ts';
import { templates } from './templates.ts';

const root = path.join(import.meta.dirname, '..');
const shown = Object.values(table).flat();

test.each(Object.entries(table))('%s', (_, tests) => {
  expect(tests.length).toBeGreaterThan(0);
  for (const [file, title] of tests) {
    const source = readFileSync(path.join(root, file), 'utf8');
    const written = file.endsWith('.py')
      ? source.includes(`def ${title}(`)
      : source.includes(`'${title}'`) || new RegExp(`^ +${title}: `, 'm').test(source);
    // Some requests are made from the table of templates.
    expect(written || title in templates, `${file}: ${title}`).toBe(true);
  }
});

test('every input and every request is a case of the table', () => {
  const named = new Set(shown.map(([, title]) => title));
  const rows = Object.keys(table);
  for (const name of [...readdirSync(path.join(root, 'reports/data')), ...Object.keys(templates)]) {
    expect(rows).toContain(name);
  }
  for (const name of Object.keys(requests)) {
    expect(named).toContain(name.replace(/^template /, ''));
  }
});
