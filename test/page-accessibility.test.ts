// The page against WCAG 2.2 AA (axe-core), in each state that a person meets.
import { expect, test } from 'vitest';
import { violationsEverywhere, violationsOf } from './helpers/accessibility.ts';
import { answered, page, say, show, usePages } from './page-fixture.ts';
import type { ToyFaults } from './server-toy.ts';

usePages();

async function open(faults: ToyFaults = {}): Promise<void> {
  await show(faults);
  await page.waitForSelector('.chip');
}

test('axe finds what is wrong: an image and a button without names, and pale text', async () => {
  await open();
  await page.evaluate(`
    const box = document.createElement('div');
    box.innerHTML = '<button></button><img src="icon.svg"><p>pale</p>';
    box.style.cssText = 'position: fixed; inset: 0; z-index: 99; background: #fff; color: #bbb';
    document.querySelector('main').append(box);
  `);
  const found = await violationsOf(page);
  const rules = new Set(found.map((one) => one.split(':')[0]));
  expect([...rules].sort()).toEqual(['button-name', 'color-contrast', 'image-alt']);
});

test('no violations in the empty page, settings closed and open', async () => {
  await open();
  expect(await violationsEverywhere(page)).toEqual([]);
  await page.click('.settings summary');
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('no violations with an answer, a long text and one from right to left', async () => {
  await open();
  await say(`${'A long text that goes on. '.repeat(60)}${'x'.repeat(300)}`);
  await answered(1);
  await say('שלום עולם. '.repeat(8));
  await answered(2);
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('no violations with a text cut into segments', async () => {
  await open();
  await page.click('#tab-cut');
  await page.fill('#text', 'One sentence. Another one? A third!');
  await page.waitForSelector('#sequence .seg');
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('no violations after the engine has stopped', async () => {
  await open({ failAt: 40, failCode: 'LS_ENGINE_CRASHED' });
  await say('A question that is long enough to fail.');
  await expect.poll(() => page.textContent('#alert')).toContain('engine has stopped');
  expect(await violationsEverywhere(page)).toEqual([]);
});
