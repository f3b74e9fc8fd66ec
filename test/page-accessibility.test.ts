// The page against WCAG 2.2 AA (axe-core), in each state that a person meets.
import { rm } from 'node:fs/promises';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createServer, type LockstepServer } from '../src/server/index.ts';
import { launch } from './browser.ts';
import { violationsEverywhere, violationsOf } from './helpers/accessibility.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

let toy: Toy;
let browser: Browser;
let server: LockstepServer;
let page: Page;

beforeAll(async () => {
  [toy, browser] = await Promise.all([makeToy(), launch()]);
});
beforeEach(async () => {
  page = await browser.newPage();
  page.setDefaultTimeout(15_000);
});
afterEach(async () => {
  await page.close();
  await server?.close();
});
afterAll(async () => {
  await browser?.close();
  await rm(toy.dir, { recursive: true, force: true });
});

async function show(faults: ToyFaults = {}): Promise<void> {
  server = createServer({
    engine: new ToyEngine(toy, faults),
    tokenizer: toy.tokenizer,
    contract: toy.files,
    options: { model: 'toy', drainMs: 100 },
  });
  const { url } = await server.listen(0);
  await page.goto(url);
  await page.waitForSelector('.chip');
}

async function say(text: string): Promise<void> {
  await page.fill('#message', text);
  await page.click('#send');
}

test('axe finds what is wrong: an image and a button without names, and pale text', async () => {
  await show();
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

test('empty, and with its settings open', async () => {
  await show();
  expect(await violationsEverywhere(page)).toEqual([]);
  await page.click('.settings summary');
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('with an answer, a long text and one from right to left', async () => {
  await show();
  await say(`${'A long text that goes on. '.repeat(60)}${'x'.repeat(300)}`);
  await expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(1);
  await say('שלום עולם. '.repeat(8));
  await expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(2);
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('a text that is cut', async () => {
  await show();
  await page.click('#tab-cut');
  await page.fill('#text', 'One sentence. Another one? A third!');
  await page.waitForSelector('#sequence .seg');
  expect(await violationsEverywhere(page)).toEqual([]);
});

test('after the death of its engine', async () => {
  await show({ failAt: 40, failCode: 'LS_ENGINE_CRASHED' });
  await say('A question that is long enough to fail.');
  await expect.poll(() => page.textContent('#alert')).toContain('engine has stopped');
  expect(await violationsEverywhere(page)).toEqual([]);
});
