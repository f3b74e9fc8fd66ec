// How the page looks and is used: themes, sizes of screens, the keyboard.
import { expect, test } from 'vitest';
import {
  answered,
  complaints,
  page,
  probes,
  say,
  set,
  show,
  TEXT,
  usePages,
} from './page-fixture.ts';

usePages();

test('the keyboard reaches every control, and every control and drawing has a name', async () => {
  await show();
  await page.click('#tab-cut');
  await page.fill('#text', TEXT.repeat(2));
  await expect.poll(() => page.locator('#sequence .t').count()).toBeGreaterThan(100);
  await page.focus('#tab-cut');
  await page.keyboard.press('ArrowLeft');
  expect(await page.getAttribute('#tab-chat', 'aria-selected')).toBe('true');
  expect(await page.isVisible('#panel-cut')).toBe(false);
  await page.keyboard.press('ArrowRight');
  await page.focus('#query');
  await page.keyboard.press('Home');
  await expect
    .poll(() => page.textContent('#readout'))
    .toContain('Token 0 in segment 0 sees 1 of 1');
  await page.keyboard.press('ArrowRight');
  await expect.poll(() => page.getAttribute('#query', 'aria-valuetext')).toContain('Token 1');
  const named = 'button, input, select, textarea, svg[role=img]';
  const wordless = await page.$$eval(named, probes.wordless);
  expect(wordless).toEqual([]);
});

test('light and dark both have contrast, and the choice is kept', async () => {
  await show();
  await page.waitForSelector('.chip');
  const ink = (): Promise<string> => page.evaluate(probes.ink);
  const light: string = await ink();
  await page.click('#theme');
  const dark = await ink();
  expect(dark).not.toBe(light);
  await page.reload();
  await page.waitForSelector('.chip');
  expect(await ink()).toBe(dark);
  for (const scheme of ['light', 'dark']) {
    await page.evaluate(probes.setTheme, scheme);
    const poor = await page.evaluate(probes.lowContrast);
    expect(poor, scheme).toEqual([]);
  }
});

test.each([
  [1400, 900],
  [390, 844],
])(
  'at %i x %i the composer and Send are in view, before and after an answer',
  async (width, height) => {
    await page.setViewportSize({ width, height });
    await show();
    await page.waitForSelector('.chip.warn');
    const inView = async (): Promise<void> => {
      for (const part of ['#message', '#send', '#tab-cut']) {
        const box = await page.locator(part).boundingBox();
        expect(box?.y, part).toBeGreaterThanOrEqual(0);
        expect((box?.y ?? 1e9) + (box?.height ?? 0), part).toBeLessThanOrEqual(height);
        expect((box?.x ?? 1e9) + (box?.width ?? 0), part).toBeLessThanOrEqual(width);
      }
    };
    await inView();
    expect(await page.evaluate('scrollY')).toBe(0);
    await page.click('.sample');
    await page.waitForSelector('.reads');
    await inView();
    const controls = 'button, input, select, textarea, summary';
    await page.click('.settings summary');
    expect(await page.$$eval(controls, probes.small)).toEqual([]);
    for (const field of ['#message', '#system']) {
      await page.locator(field).evaluate(probes.drawLarger);
    }
    await inView();
    await page.click('#tab-cut');
    expect(await page.$$eval(controls, probes.small)).toEqual([]);
  },
);

test('it fits a narrow screen', async () => {
  await page.setViewportSize({ width: 400, height: 860 });
  await show();
  await page.waitForSelector('.chip');
  await set({ most: '60' });
  await say(TEXT);
  await answered(1);
  for (const tab of ['#tab-chat', '#tab-cut']) {
    await page.click(tab);
    const wide = await page.evaluate(probes.overflow);
    expect(wide).toBeLessThanOrEqual(0);
  }
  await page.click('#tab-chat');
  const box = await page.locator('#send').boundingBox();
  expect(box?.x).toBeGreaterThanOrEqual(0);
  expect((box?.x ?? 0) + (box?.width ?? 0)).toBeLessThanOrEqual(400);
  expect(complaints).toEqual([]);
});
