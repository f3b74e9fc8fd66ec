// What axe-core finds on a page against WCAG 2.2, levels A and AA.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { launch } from '../browser.ts';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** Rules that each page gives something to judge; under an open dialog the page itself is not judged. */
const ALWAYS = ['document-title', 'html-has-lang', 'color-contrast'];

interface Found {
  violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
  passes: { id: string }[];
}

/**
 * Each rule that is broken, with the elements.
 *
 * @throws Error where the rules found nothing to look at: a page without a thing to judge proves nothing
 */
export async function violationsOf(page: Page, judged = ALWAYS): Promise<string[]> {
  await page.evaluate(axe);
  // Text, because the page's names are unknown to this program.
  const options = JSON.stringify({ runOnly: { type: 'tag', values: TAGS } });
  const { violations, passes }: Found = await page.evaluate(`axe.run(document, ${options})`);
  for (const rule of judged) {
    if (![...passes, ...violations].some(({ id }) => id === rule)) {
      throw new Error(`expected axe to judge ${rule}, got ${passes.map(({ id }) => id).join()}`);
    }
  }
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)}\n${failureSummary}`),
  );
}

/** Each colour scheme on each screen; each of them, and each screen, with motion and without. */
const VIEWS = [
  ['light', 1400, 900, 'reduce'],
  ['light', 390, 844, 'no-preference'],
  ['dark', 1400, 900, 'no-preference'],
  ['dark', 390, 844, 'reduce'],
] as const;

/** The same in both colour schemes, on a wide and a narrow screen, without motion and with it. */
export async function violationsEverywhere(page: Page, judged = ALWAYS): Promise<string[]> {
  const all: string[] = [];
  for (const [colorScheme, width, height, reducedMotion] of VIEWS) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme, reducedMotion });
    const found = await violationsOf(page, judged);
    const where = `${colorScheme}, ${width} x ${height}, motion ${reducedMotion}`;
    all.push(...found.map((one) => `${where}: ${one}`));
  }
  return all;
}

/** The same of HTML files, in a browser of their own; each finding begins with the file's name. */
export async function violationsOfFiles(...files: string[]): Promise<string[]> {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const all: string[] = [];
    for (const file of files) {
      await page.goto(pathToFileURL(file).href);
      const found = await violationsEverywhere(page);
      all.push(...found.map((one) => `${path.basename(file)}, ${one}`));
    }
    return all;
  } finally {
    await browser.close();
  }
}
