// The page keeps a conversation over a reload, and forgets it when it is cleared or of another contract.
import { expect, test } from 'vitest';
import {
  answered,
  bands,
  complaints,
  engine,
  page,
  probes,
  say,
  set,
  show,
  TEXT,
  usePages,
} from './page-fixture.ts';

usePages();

test('a reload keeps the conversation, which can be continued; Clear deletes it', async () => {
  await show();
  await set({ most: '60' });
  await say(TEXT.repeat(2));
  await page.waitForSelector('.reads');
  const before = await page.innerText('#log');
  await page.locator('.source').first().click();
  const words = await page.locator('mark.chosen').textContent();
  await page.reload();
  await page.waitForSelector('.reads');
  expect(await page.innerText('#log')).toBe(before);
  await page.locator('.source').first().click();
  expect(await page.locator('mark.chosen').textContent()).toBe(words);
  const answer = await page.textContent('.bubble.assistant');
  await say('Second.');
  await answered(2);
  const shown = (await bands()).join('');
  expect(shown).toContain(`<|assistant|>${answer}<|end|><|user|>Second.`);
  await page.click('#clear');
  await page.reload();
  await page.waitForSelector('.empty');
  expect(await page.locator('.bubble').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('a reload during an answer keeps what has arrived, and the message being typed', async () => {
  await show({ delayMs: 10 });
  await page.click('.settings summary');
  await page.fill('#system', 'Be brief.');
  await page.fill('#most', '5000');
  await say('First.');
  await expect.poll(() => page.locator('.bubble.assistant').textContent()).toMatch(/.{5}/);
  await page.fill('#message', 'Not yet sent.');
  const written = (await page.locator('.bubble.assistant').textContent()) ?? '';
  await page.reload();
  await page.waitForSelector('.bubble');
  expect(await page.locator('.bubble.user').textContent()).toBe('First.');
  expect(await page.locator('.bubble.assistant').textContent()).toContain(written);
  expect(await page.textContent('.meta')).toBe('Interrupted.');
  expect(await page.inputValue('#message')).toBe('Not yet sent.');
  expect(await page.inputValue('#system')).toBe('Be brief.');
  await expect.poll(() => engine.sessions).toBe(0);
});

test('a conversation of another contract is not shown', async () => {
  await show();
  await set({ most: '4' });
  await say('First.');
  await page.waitForSelector('.meta');
  // Before the page's own script: what it leaves when it goes is of this contract.
  await page.addInitScript(probes.otherContract);
  await page.reload();
  await page.waitForSelector('.empty');
  expect(await page.locator('.bubble').count()).toBe(0);
});
