// The page in front of vLLM's protocol, in a real browser: what it runs, and a chat without numbers of memory.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { changeKeys, KeyRing, newKey } from '../src/server/index.ts';
import { complaintsOf, launch } from './browser.ts';
import { until } from './server-client.ts';
import { makeToy, type Toy } from './server-toy.ts';
import { Opened } from './vllm-upstream.ts';

let toy: Toy;
let browser: Browser;
let opened: Opened;

beforeAll(async () => {
  [toy, browser] = await Promise.all([makeToy(), launch()]);
  opened = new Opened(toy);
});
afterAll(async () => {
  await browser?.close();
  await opened.close();
  await rm(toy.dir, { recursive: true, force: true });
});

test('shows KV by group, segments, cache and preemptions, and chats', async () => {
  const fake = await opened.fake('--delay', '0.002');
  const { url } = await opened.relay([fake.url]);
  await until(async () => (await fetch(`${url}/health/ready`)).status === 200);
  const page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
  page.setDefaultTimeout(15_000);
  const complaints = complaintsOf(page, url);
  await page.goto(url);
  await page.waitForSelector('#engine-facts dt');
  const text = await page.innerText('#engine');
  for (const part of [
    'vLLM, all requests',
    '1 of 1 ready',
    'KV blocks, local heads',
    '700 B',
    '2.10 KB',
    '75 % of 40 tokens',
    'Preemptions',
  ]) {
    expect(text).toContain(part);
  }
  await page.fill('#message', 'Tell me of the sea. It is wide. It is deep and cold.');
  await page.click('#send');
  await page.waitForSelector('.meta');
  expect(await page.innerText('#memory')).toContain(
    'the engine does not report memory per request',
  );
  expect(await page.locator('#sequence').innerText()).toContain('Tell me of the sea.');
  const folder = process.env['LOCKSTEP_SCREENSHOTS'];
  if (folder) await page.screenshot({ path: `${folder}/vllm.png`, fullPage: true });
  expect(complaints).toEqual([]);
  await page.close();
});

test('a key that may not see all clients chats without the card of the engine', async () => {
  const fake = await opened.fake();
  const { key, id, hash } = await newKey();
  const file = path.join(toy.dir, 'keys.json');
  const created = new Date().toISOString();
  await changeKeys(file, () => [{ name: 'alice', id, hash, created }]);
  const { url } = await opened.relay([fake.url], { keys: await KeyRing.open(file) });
  await until(async () => (await fetch(`${url}/health/ready`)).status === 200);
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  await page.addInitScript(`sessionStorage.setItem('lockstep.key', '${key}')`);
  const asked: number[] = [];
  page.on('response', (response) => {
    if (new URL(response.url()).pathname === '/lockstep/engine') asked.push(response.status());
  });
  await page.goto(url);
  await page.fill('#message', 'Tell me of the sea.');
  await page.click('#send');
  await page.waitForSelector('.meta');
  expect(await page.locator('#engine').isVisible()).toBe(false);
  expect(asked).toEqual([403]);
  await page.close();
});
