// The page in front of `lockstep serve --config` with two real models, and a real SIGHUP while it is open.
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { complaintsOf, launch } from '../browser.ts';
import { servedCheckpoint } from '../served-checkpoint.ts';
import { configFile, running, serve, temporary } from './fixture.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const CHAT =
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const WAIT = { timeout: 60_000 };

let folder: string;
let browser: Browser;
let models: { name: string; dir: string; engine: 'onnx' | 'torch'; threads: number }[];

beforeAll(async () => {
  folder = await temporary();
  browser = await launch();
  const one = await servedCheckpoint(path.join(folder, 'one'), CHAT);
  const other = { seed: 5, max: 24, onnx: false };
  const two = await servedCheckpoint(path.join(folder, 'two'), CHAT, other);
  models = [
    { name: 'one', dir: one, engine: 'onnx', threads: 1 },
    { name: 'two', dir: two, engine: 'torch', threads: 1 },
  ];
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

test('both models answer by their own contract; SIGHUP removes one, and brings it back', async () => {
  const config = configFile(folder);
  await config.write({ models });
  const served = await serve('--config', config.file);
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  page.setDefaultTimeout(60_000);
  const complaints = complaintsOf(page, served.url);
  await page.goto(served.url);
  await page.waitForSelector('.chip.warn');
  const listed = () => page.locator('#model option').allTextContents();
  expect(await listed()).toEqual(['one · onnx fp32 · ready', 'two · torch float32 · ready']);
  await page.click('.settings summary');
  await page.fill('#most', '12');
  // Drawn at a temperature, an answer may end before its twelfth token.
  await page.fill('#temperature', '0');
  await page.click('.settings summary');

  for (const [name, dir, longest] of models.map(({ name, dir }, i) => [name, dir, [32, 24][i]])) {
    await page.selectOption('#model', name as string);
    await expect.poll(() => page.title(), WAIT).toBe(`Lockstep: ${name}`);
    const { digest } = JSON.parse(
      await readFile(path.join(dir as string, 'lockstep.json'), 'utf8'),
    );
    expect(await page.locator('.chip .digest').getAttribute('title')).toBe(digest);
    expect(await page.innerText('#facts')).toContain(`8 to ${longest} tokens (S)`);
    await page.fill('#message', `${name}: the rain fell on the lamps of the town, all night long`);
    await page.click('#send');
    await page.waitForSelector('.meta');
    expect(await page.textContent('.meta')).toContain('12 written');
    expect(await page.locator('.reads').count()).toBe(1);
    // The answer that is drawn is this model's: no segment is longer than its contract says.
    await expect
      .poll(() => page.locator('#sequence').innerText(), WAIT)
      .toContain(`${name}: the rain`);
    const tags = await page.locator('#sequence .tag').allTextContents();
    const lengths = tags.map((tag) => Number(tag.split(' · ')[1])).filter((n) => !Number.isNaN(n));
    expect(Math.max(...lengths)).toBe(longest);
  }

  await config.write({ models: models.slice(0, 1) });
  expect((await served.hangUp()).removed).toEqual(['two']);
  const notice = () => page.textContent('#alert');
  await expect.poll(notice, WAIT).toContain('The server no longer serves two. one is chosen now.');
  expect(await page.locator('.bubble.user').textContent()).toContain('one: the rain');
  expect((await listed())[1]).toBe('two · torch float32 · no longer served');

  await config.write({ models });
  expect((await served.hangUp()).added).toEqual(['two']);
  await expect.poll(notice, WAIT).toContain('The server now serves two.');
  await page.selectOption('#model', 'two');
  await expect.poll(() => page.textContent('.bubble.user'), WAIT).toContain('two: the rain');

  const aliases = ['chat'];
  await config.write({
    models: models.map((one) => ({
      ...one,
      aliases: one.name === 'one' ? aliases : [],
      maxTokens: 700,
    })),
  });
  expect((await served.hangUp()).replaced).toEqual(['one', 'two']);
  await expect.poll(notice, WAIT).toContain('The server has loaded two again.');
  expect(await page.getAttribute('#most', 'max')).toBe('700');
  expect(complaints).toEqual([]);
  await page.close();
});
