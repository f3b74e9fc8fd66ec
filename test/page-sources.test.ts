// The page says where an answer read: under it as quotes, in the messages as marks. Toy engine, then a real model.
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { attach } from '../src/checkpoint/index.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { packageRoot } from '../src/paths.ts';
import { after, anyOf, sentences, turns } from '../src/policies/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import {
  type Any,
  complaints,
  page,
  probes,
  say,
  server,
  set,
  show,
  showServer,
  url,
  usePages,
} from './page-fixture.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

usePages();

let asked: Any[];
beforeEach(async () => {
  await page.setViewportSize({ width: 1400, height: 900 });
  page.setDefaultTimeout(20_000);
  asked = [];
  page.on('request', (request) => {
    if (request.url().endsWith('completions')) asked.push(request.postDataJSON());
  });
});

async function showToy(): Promise<void> {
  await show();
  await page.waitForSelector('.chip');
}

async function ask(text: string): Promise<void> {
  const before = await page.locator('.reads').count();
  await say(text);
  await expect.poll(() => page.locator('.reads').count(), { timeout: 600_000 }).toBe(before + 1);
}

/** What the server says of the newest request, asked once more without a stream. */
async function told(): Promise<Any> {
  const { stream: _, stream_options: __, ...body } = asked.at(-1);
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, lockstep: { sources: true } }),
  });
  return ((await response.json()) as Any).lockstep.sources;
}

const chosen = (): Promise<string> => page.locator('mark.chosen').first().innerText();
const LONG =
  'Å🌊 It was a dark and stormy night. The rain fell in torrents, except at times. '.repeat(20);

test('the quotes under an answer are the sources that the server reports, segment by segment', async () => {
  await showToy();
  await set({ most: '90', temperature: '0' });
  await ask(LONG);
  const sources = await told();
  const reads = page.locator('.reads');
  expect(await reads.locator('.part').count()).toBe(sources.length);
  expect(sources.length).toBeGreaterThan(2);
  for (const [i, source] of sources.entries()) {
    await reads.locator('.part').nth(i).click();
    const spans = source.spans.filter(
      ({ message }: Any) => message !== null && message.chars[1] > message.chars[0],
    );
    const more = reads.locator('.more');
    if (await more.isVisible()) await more.click();
    expect(await reads.locator('.source').count()).toBe(spans.length);
    const shares = await reads.locator('.source .share').allInnerTexts();
    expect(shares.map((text) => Number.parseInt(text, 10))).toEqual(
      spans.map(({ weight }: Any) => Math.max(1, Math.round(weight * 100))),
    );
    for (const [j, span] of spans.entries()) {
      await reads.locator('.source').nth(j).focus();
      const bubble = span.message.index === 0 ? '.bubble.user' : '.bubble.assistant';
      const own = await page.locator(`${bubble} mark.chosen`).textContent();
      expect(own).not.toBe('');
      expect(span.text).toContain(own);
    }
  }
  // Nothing but marks is changed in the message.
  expect(await page.locator('.bubble.user').textContent()).toBe(LONG);
  expect(complaints).toEqual([]);
});

test('pointing marks, clicking keeps, and the long message scrolls to it', async () => {
  await showToy();
  await set({ most: '5', temperature: '0' });
  await ask(LONG);
  const source = page.locator('.source').last();
  await page.mouse.move(5, 5);
  expect(await page.locator('mark').count()).toBe(0);
  await source.hover();
  expect(await page.locator('mark.chosen').count()).toBe(1);
  const words = await chosen();
  await page.mouse.move(5, 5);
  expect(await page.locator('mark').count()).toBe(0);
  await source.click();
  await page.mouse.move(5, 5);
  expect(await source.getAttribute('aria-pressed')).toBe('true');
  expect(await chosen()).toBe(words);
  const seen = await page.evaluate(probes.inside, ['mark.chosen', '.bubble.user']);
  expect(seen).toBe(true);
  // The next question takes the marks away.
  await ask('And then?');
  expect(await page.locator('mark').count()).toBe(0);
});

test('the keyboard reaches quotes, marks them, and says how many heads', async () => {
  await showToy();
  await set({ most: '5', temperature: '0' });
  await ask(LONG);
  await page.locator('.source').first().focus();
  expect(await page.locator('mark.chosen').count()).toBe(1);
  await page.keyboard.press('Enter');
  expect(await page.locator('.source').first().getAttribute('aria-pressed')).toBe('true');
  const name = await page.locator('.source').first().innerText();
  expect(name).toMatch(/\d+%\s*of the heads/);
  await page.keyboard.press('Tab');
  expect(await page.locator('.source').nth(1).evaluate(probes.focused)).toBe(true);
  // Strength is bars and a figure too, and marked text a line: not colour alone.
  expect(await page.locator('.source').first().locator('.strength i.on').count()).toBeGreaterThan(
    0,
  );
  expect(await page.locator('mark.chosen').first().evaluate(probes.underlined)).toBe(true);
  for (const scheme of ['light', 'dark']) {
    await page.evaluate(probes.setTheme, scheme);
    expect(await page.evaluate(probes.lowContrast), scheme).toEqual([]);
  }
  expect(await page.$$eval('button, input, select, textarea, summary', probes.small)).toEqual([]);
});

test('a question that fits its segment read nothing earlier', async () => {
  await showToy();
  await set({ most: '3', temperature: '0' });
  await ask('Hi.');
  expect(await page.innerText('.reads')).toContain('Nothing: there is no cut before the answer.');
  expect(await page.locator('.source').count()).toBe(0);
});

test('the page with marks fits a narrow screen', async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  await showToy();
  await set({ most: '60', temperature: '0' });
  await ask(LONG);
  await page.locator('.source').first().click();
  expect(await page.evaluate(probes.overflow)).toBeLessThanOrEqual(0);
  expect(complaints).toEqual([]);
});

const model = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
const poem = path.join(packageRoot, '.lockstep', 'texts', 'milton', 'allegro.txt');

/** Some 1,300 tokens of Milton, a number in their middle, and a question about it. */
function needle(): string {
  const text = readFileSync(poem, 'utf8').replaceAll('\r', '').slice(3400, 7900);
  const cut = text.indexOf('\n', 2200);
  const number = '\nOne of the special magic numbers for Ashford is: 7204931.';
  const question = '\n\nWhat is the special magic number for Ashford?';
  return text.slice(0, cut) + number + text.slice(cut) + question;
}

test.skipIf(![poem, path.join(model, 'model.safetensors')].every((file) => existsSync(file)))(
  'SmolLM2 answers a question about a long text, and the page shows where from',
  async () => {
    const folder = temporaryFolder('page-sources');
    const dir = path.join(folder, 'recall');
    const heads = path.join(packageRoot, 'bench', 'recall', 'heads.json');
    const order = JSON.parse(readFileSync(heads, 'utf8')).heads as [number, number][];
    const best = order.slice(0, 24);
    const long = Array.from({ length: 30 }, (_, layer) =>
      best
        .filter(([of]) => of === layer)
        .map(([, head]) => head)
        .sort((a, b) => a - b),
    );
    const layers = long.flatMap((list, layer) => (list.length > 0 ? [layer] : []));
    const retrieval = { size: 512, recipe: 'blocks', block: 32, distance: 128, window: 64, layers };
    const config = {
      policy: anyOf(after(sentences(), 256), turns()),
      segment: { min: 16, max: 512, align: 1 },
      carry: { size: 128, sinks: 4, heads: 'all' },
      retrieval,
      heads: { long },
      bos: false,
    };
    const contract = await attach({ config: config as Any, modelDir: model, out: dir });
    const engine = await openTorchEngine(dir, { threads: 2 });
    try {
      await showServer({
        engine,
        tokenizer: await loadTokenizer(dir),
        contract,
        options: { model: 'recall', drainMs: 100 },
      });
      await page.waitForSelector('.chip');
      await set({ most: '40', temperature: '0' });
      const text = needle();
      await ask(text);
      expect(await page.textContent('.bubble.assistant')).toContain('7204931');
      const first = page.locator('.source').first();
      expect(Number.parseInt(await first.locator('.share').innerText(), 10)).toBeGreaterThan(80);
      await first.click();
      expect(await page.locator('.bubble.user mark.chosen').textContent()).toContain('7204931');
      expect(await page.locator('.bubble.user').textContent()).toBe(text);
      // It chose: what most heads took is the smaller part of the text.
      const strong = page.locator('.bubble.user mark:is(.level-3, .level-4)');
      const marked = (await strong.allTextContents()).join('');
      expect(marked.length).toBeLessThan(0.5 * text.length);
      expect(complaints).toEqual([]);
      const shots = process.env['LOCKSTEP_SCREENSHOTS'];
      if (shots) await page.screenshot({ path: `${shots}/sources.png`, fullPage: true });
    } finally {
      await server?.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
  900_000,
);
