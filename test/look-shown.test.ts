// Each surface in a real browser: both schemes, wide and at 390 pixels, printed, by keyboard, without motion.
// LOCKSTEP_SCREENSHOTS=FOLDER keeps a picture of each.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tokens } from '../src/cli/drawing/tokens.ts';
import { legendOf } from '../src/server/page/legend.js';
import { complaintsOf } from './browser.ts';
import { violationsEverywhere } from './helpers/accessibility.ts';
import { digest, htmlFiles, pictures } from './helpers/surfaces.ts';
import { complaints, page, show, toy, usePages } from './page-fixture.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

// biome-ignore lint/suspicious/noExplicitAny: it runs inside the browser, in JavaScript
const probes: any = await import(new URL('helpers/look-probes.js', import.meta.url).href);

const shots = process.env['LOCKSTEP_SCREENSHOTS'];
const screens = [
  [1400, 900],
  [390, 844],
] as const;
const schemes = ['light', 'dark'] as const;

let home: string;

usePages(30_000);

beforeAll(async () => {
  home = temporaryFolder('look');
  if (shots) mkdirSync(shots, { recursive: true });
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

async function openFile(name: string, text: string): Promise<string[]> {
  const file = path.join(home, name);
  writeFileSync(file, text);
  const complaints = complaintsOf(page, 'file:');
  await page.goto(pathToFileURL(file).href);
  return complaints;
}

/** On each screen and in each scheme: nothing is cut off or wider than the screen. */
async function look(name: string): Promise<void> {
  for (const [width, height] of screens) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme });
      // Drawings follow the new width in the next frame.
      await page.evaluate(
        'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))',
      );
      if (shots) {
        const to = path.join(shots, `${name}-${colorScheme}-${width}.png`);
        await page.screenshot({ path: to, fullPage: true });
      }
      const where = `${name} ${colorScheme} ${width}`;
      expect(await page.evaluate(probes.clipped), where).toEqual([]);
      const wider = 'document.documentElement.scrollWidth - innerWidth';
      expect(await page.evaluate(wider), where).toBeLessThanOrEqual(0);
    }
  }
}

describe.each(Object.keys(htmlFiles))('the file of %s', (name) => {
  const open = (): Promise<string[]> => openFile(`${name}.html`, htmlFiles[name]?.() ?? '');

  test('fits, and meets WCAG 2.2 AA with and without motion', { timeout: 300_000 }, async () => {
    const complaints = await open();
    await look(name);
    expect(await page.evaluate(probes.raggedColumns)).toEqual([]);
    expect(await violationsEverywhere(page)).toEqual([]);
    expect(await page.evaluate(probes.unreachable)).toEqual([]);
    expect(complaints).toEqual([]);
  });

  test('works by keyboard: past the header, and the digest whole in the focus', async () => {
    await open();
    await page.keyboard.press('Tab');
    expect(await page.locator(':focus').textContent()).toBe('Skip to the content');
    await page.keyboard.press('Tab');
    expect((await page.locator('.digest:focus').boundingBox())?.width).toBeGreaterThan(300);
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('Enter');
    expect(await page.locator('main:focus').count()).toBe(1);
    expect((await page.locator('.digest').boundingBox())?.width).toBeLessThan(130);
    expect(await page.getAttribute('.digest', 'title')).toBe(digest);
    expect(await page.locator('.digest').evaluate(probes.selected)).toBe(digest);
  });

  test('prints as it looks in the light, whole', async () => {
    await open();
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await page.evaluate(probes.colors);
    expect(dark).toEqual(rgb('dark'));
    await page.emulateMedia({ colorScheme: 'dark', media: 'print' });
    expect(await page.evaluate(probes.colors)).toEqual(rgb('light'));
    await page.setViewportSize({ width: 718, height: 1000 });
    expect(await page.evaluate(probes.clipped)).toEqual([]);
    expect(await page.$$eval('.skip, nav', probes.printed)).toBe(0);
    const pdf = await page.pdf({ format: 'A4' });
    expect(pdf.length).toBeGreaterThan(10_000);
    if (shots) writeFileSync(path.join(shots, `${name}.pdf`), pdf);
  });
});

/** Ink and card, as a browser says them. */
function rgb(scheme: 'light' | 'dark'): string[] {
  return ['ink', 'card'].map(
    (name) => `rgb(${numbers(tokens.get(name)?.[scheme] ?? '').join(', ')})`,
  );
}

function numbers(color: string): number[] {
  return [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
}

describe('pictures', () => {
  test.each(Object.keys(pictures))(
    '%s: each text is inside, and none is over another',
    async (name) => {
      for (const width of [640, 336]) {
        const svg = pictures[name]?.(width) ?? '';
        await page.setViewportSize({ width: 1400, height: 900 });
        await page.setContent(svg);
        if (shots)
          await page.locator('svg').screenshot({ path: path.join(shots, `${name}-${width}.png`) });
        expect(await page.evaluate(probes.badTexts), `${width}`).toEqual([]);
      }
    },
  );

  test('the probe finds texts that are outside or over each other', async () => {
    const text = (x: number, words: string): string => `<text x="${x}" y="20">${words}</text>`;
    const inner = text(10, 'first') + text(20, 'second') + text(95, 'beyond');
    await page.setContent(`<svg viewBox="0 0 100 40" width="100" height="40">${inner}</svg>`);
    expect(await page.evaluate(probes.badTexts)).toEqual([
      'over each other: first / second',
      'outside: beyond',
    ]);
  });

  test('in an image they are light in the light and dark in the dark', async () => {
    const svg = Buffer.from(pictures['perplexity']?.(640) ?? '').toString('base64');
    const meta = '<meta name="color-scheme" content="light dark">';
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme });
      await page.setContent(`${meta}<img src="data:image/svg+xml;base64,${svg}">`);
      const corner = await page.locator('img').evaluate(probes.cornerOf);
      expect(corner).toEqual(numbers(tokens.get('card')?.[colorScheme] ?? ''));
    }
  });

  test('a phone gets the picture that is drawn for it', async () => {
    await openFile('report.html', htmlFiles['report']?.() ?? '');
    const drawn =
      '[...document.images].map((image) => image.currentSrc.length > 0 && image.naturalWidth)';
    await page.setViewportSize({ width: 1400, height: 900 });
    expect(new Set((await page.evaluate(drawn)) as number[])).toEqual(new Set([640]));
    await page.setViewportSize({ width: 390, height: 844 });
    await expect
      .poll(async () => new Set((await page.evaluate(drawn)) as number[]))
      .toEqual(new Set([336]));
  });
});

describe('the page', () => {
  test('fits in each state', { timeout: 300_000 }, async () => {
    await show();
    await page.waitForSelector('.chip');
    await look('page-empty');
    await page.click('.sample >> nth=1');
    await page.waitForSelector('.reads');
    await look('page-answer');
    await page.click('.settings summary');
    await look('page-settings');
    await page.click('#tab-cut');
    await page.click('#samples .sample >> nth=1');
    await page.waitForSelector('#sequence .seg');
    await look('page-cut');
    expect(complaints).toEqual([]);
  });

  test('fits when its engine has stopped', { timeout: 120_000 }, async () => {
    await show({ failAt: 40, failCode: 'LS_ENGINE_CRASHED' });
    await page.fill('#message', 'A question that is long enough to fail.');
    await page.click('#send');
    await page.waitForSelector('#alert:not([hidden])');
    expect(await page.locator('#alert code').textContent()).toBe('lockstep serve');
    await look('page-stopped');
  });

  test('the key dialog fits and meets WCAG 2.2 AA', { timeout: 120_000 }, async () => {
    await show({}, { apiKey: 'open sesame' });
    await page.waitForSelector('#key-dialog[open]');
    await look('page-key');
    expect(await violationsEverywhere(page, ['label', 'color-contrast'])).toEqual([]);
  });

  test('has the legend that files have, and the digest whole where it is looked at', async () => {
    await show();
    await page.waitForSelector('.chip');
    const { contract } = toy.files;
    expect(await page.evaluate(probes.legendWords)).toEqual(
      legendOf(contract).map(({ role, name, words }) => [`role-${role}`, name, words]),
    );
    const width = async () => (await page.locator('.digest').boundingBox())?.width;
    expect(await width()).toBeLessThan(130);
    await page.focus('.digest');
    expect(await width()).toBeGreaterThan(300);
    expect(await page.locator('.digest').evaluate(probes.selected)).toBe(contract.digest);
  });

  test('moves unless the user asks it not to', async () => {
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    await show();
    await page.waitForSelector('.chip');
    expect(await page.evaluate(probes.longestMotion)).toBeGreaterThan(0);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    expect(await page.evaluate(probes.longestMotion)).toBe(0);
  });

  test('prints the conversation whole, in the light, without what cannot be pressed', async () => {
    await show();
    await page.click('.sample >> nth=1');
    await page.waitForSelector('.reads');
    await page.evaluate('document.documentElement.dataset.theme = "dark"');
    expect(await page.evaluate(probes.colors)).toEqual(rgb('dark'));
    await page.emulateMedia({ media: 'print' });
    expect(await page.evaluate(probes.colors)).toEqual(rgb('light'));
    const controls = '#composer, #query, #theme, .tabs, .lens, .samples';
    expect(await page.$$eval(controls, probes.printed)).toBe(0);
    expect(await page.$$eval('.bubble, .source, #sequence', probes.printed)).toBeGreaterThan(3);
    expect(await page.$$eval('.log, .bubble, #sequence', probes.cutOff)).toEqual([]);
    if (shots) await page.pdf({ path: path.join(shots, 'page.pdf'), format: 'A4' });
  });
});
