// The page's chat: messages are sent, stopped and refused in words, and a system message comes first.
import { expect, test } from 'vitest';
import {
  answered,
  bands,
  complaints,
  engine,
  page,
  probes,
  say,
  server,
  set,
  show,
  url,
  usePages,
} from './page-fixture.ts';

usePages();

test('a second message continues the conversation, and Stop frees the session', async () => {
  await show({ delayMs: 10 });
  await set({ most: '20' });
  for (const [turn, text] of ['First.', 'Second.'].entries()) {
    await say(text);
    await answered(turn + 1);
  }
  const shown = (await bands()).join('');
  const first = await page.locator('.bubble.assistant').first().textContent();
  expect(shown).toContain(`<|user|>First.<|end|><|assistant|>${first}<|end|><|user|>Second.`);
  await set({ most: '5000' });
  await say('Third.');
  await expect.poll(() => page.locator('.bubble.assistant').last().textContent()).toMatch(/.{5}/);
  expect(engine.sessions).toBe(1);
  await page.click('#send');
  await expect.poll(() => engine.sessions).toBe(0);
  await expect.poll(() => page.locator('.meta').last().textContent()).toBe('Stopped.');
  expect(await page.textContent('#send')).toBe('Send');
  expect(complaints).toEqual([]);
});

test('Send waits for the contract, and what was written meanwhile stays', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route('**/lockstep/contract*', async (route) => {
    await held;
    await route.continue();
  });
  await show();
  await page.fill('#message', 'Too early.');
  expect(await page.isDisabled('#send')).toBe(true);
  await page.locator('#send').dispatchEvent('click');
  expect(await page.inputValue('#message')).toBe('Too early.');
  release();
  await page.click('#send');
  await page.waitForSelector('.meta');
  expect(await page.locator('.bubble').first().textContent()).toBe('Too early.');
  expect(page.url()).toBe(`${url}/`);
  expect(complaints).toEqual([]);
});

test('errors are shown in plain words, and the message is kept', async () => {
  await show({ failAt: 30 }, { maxTokens: 400, maxBodyBytes: 20_000 });
  await set({ most: '100' });
  await say('A message that fails on its way.');
  await expect.poll(() => page.textContent('#alert')).toContain('expected finite logits');
  expect(await page.inputValue('#message')).toBe('A message that fails on its way.');
  await page.click('#alert button');
  expect(await page.isVisible('#alert')).toBe(false);
  engine.faults = {};
  await say('x'.repeat(500));
  await expect.poll(() => page.textContent('#alert')).toContain('session limit');
  await page.click('#tab-cut');
  await page.fill('#text', 'x'.repeat(30_000));
  await expect.poll(() => page.textContent('#alert')).toContain('at most 20000 bytes');
  await server?.close();
  await page.fill('#text', 'y');
  await expect.poll(() => page.textContent('#alert')).toContain('cannot be reached');
});

test('a server with a key asks for it once', async () => {
  await show({}, { apiKey: 'open sesame' });
  await page.waitForSelector('#key-dialog[open]');
  expect(await page.$$eval('#key-dialog input, #key-dialog button', probes.small)).toEqual([]);
  await page.fill('#key', 'open sesame');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.chip');
  await page.click('#tab-cut');
  await page.fill('#text', 'A text. Another one.');
  await expect.poll(bands).not.toEqual([]);
});

test('a system message is sent first, is shown, and may be changed', async () => {
  await show();
  await page.click('.settings summary');
  await page.fill('#system', 'Be brief.');
  await page.fill('#most', '5');
  await page.click('.settings summary');
  for (const [turn, text] of ['First.', 'Second.'].entries()) {
    await say(text);
    await answered(turn + 1);
  }
  const shown = async () => (await bands()).join('');
  expect(await shown()).toContain('<|system|>Be brief.<|end|><|user|>First.');
  expect(await shown()).toContain('<|user|>Second.');
  expect(await page.locator('.bubble.system').textContent()).toBe('Be brief.');
  await page.reload();
  await page.click('.settings summary');
  expect(await page.inputValue('#system')).toBe('Be brief.');
  await page.fill('#system', '');
  await say('Third.');
  await answered(3);
  expect(await shown()).toMatch(/^<\|user\|>First/);
  expect(await page.locator('.bubble.system').count()).toBe(0);
  expect(complaints).toEqual([]);
});
