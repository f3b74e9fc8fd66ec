// The page in a real browser, in front of a real server and a toy engine.
import { rm } from 'node:fs/promises';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createServer, type LockstepServer, type ServerOptions } from '../src/server/index.ts';
import { complaintsOf, launch } from './browser.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
type Any = any;

// What runs inside the browser, in JavaScript: the rest of the project has no DOM types.
const probes: Any = await import(new URL('page-probes.js', import.meta.url).href);

let toy: Toy;
let browser: Browser;
let server: LockstepServer | null = null;
let engine: ToyEngine;
let page: Page;
let url: string;
let complaints: string[];

beforeAll(async () => {
  [toy, browser] = await Promise.all([makeToy(), launch()]);
});
beforeEach(async () => {
  page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
  page.setDefaultTimeout(15_000);
});
afterEach(async () => {
  await page.close();
  await server?.close();
  server = null;
});
afterAll(async () => {
  await browser?.close();
  await rm(toy.dir, { recursive: true, force: true });
});

async function show(faults: ToyFaults = {}, options: ServerOptions = {}): Promise<void> {
  engine = new ToyEngine(toy, faults);
  server = createServer({
    engine,
    tokenizer: toy.tokenizer,
    contract: toy.files,
    options: { model: 'toy', drainMs: 100, ...options },
  });
  ({ url } = await server.listen(0));
  complaints = complaintsOf(page, url);
  await page.goto(url);
}

async function mostTokens(count: number): Promise<void> {
  await page.click('.settings summary');
  await page.fill('#most', String(count));
  await page.click('.settings summary');
}

/** The bands that are shown: each segment's text, without its tag. */
function bands(): Promise<string[]> {
  return page.$$eval('#sequence .seg', probes.bandTexts);
}

async function planOf(text: string): Promise<Any> {
  const response = await fetch(`${url}/lockstep/plan`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text }),
  });
  return response.json();
}

const TEXT =
  'The rain fell in torrents. It stopped? It did not!\nRattling along the housetops, and fiercely agitating the scanty flame of the lamps — été ☃.';

test('typing shows the segments that /lockstep/plan gives', async () => {
  await show();
  await page.click('#tab-cut');
  for (const text of [TEXT, `${TEXT} ${TEXT}`, '🌊 a. '.repeat(30)]) {
    await page.fill('#text', text);
    const plan = await planOf(text);
    await expect.poll(bands).toEqual(plan.segments.map((segment: Any) => segment.text));
    expect(await page.locator('#strip svg [class^="band-"]').count()).toBe(plan.segments.length);
    expect(await page.locator('#strip .cutline').count()).toBe(plan.boundaries.length);
  }
  await page.fill('#text', '');
  await expect.poll(bands).toEqual([]);
  expect(complaints).toEqual([]);
});

test('chat streams, and segments, carry, sinks and retrieved spans are drawn', async () => {
  await show({ delayMs: 4 });
  await mostTokens(120);
  await page.evaluate(probes.recordHeld);
  await page.fill('#message', TEXT);
  await page.keyboard.press('Enter');
  await expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(1);
  // The bars moved while it ran.
  expect(await page.evaluate('heldTexts.length')).toBeGreaterThan(4);
  const answer = await page.textContent('.bubble.assistant');
  expect(answer?.length).toBeGreaterThan(100);
  const shown = (await bands()).join('');
  expect(shown).toContain(`<|user|>${TEXT}<|end|><|assistant|>`);
  // The last sampled token has not run.
  expect(shown.endsWith(`${(answer ?? '').slice(0, -1)}`)).toBe(true);
  const plan = await planOf(shown);
  expect(await bands()).toEqual(plan.segments.map((segment: Any) => segment.text));

  for (const role of ['sinks', 'carry', 'own', 'retrieved']) {
    expect(await page.locator(`#strip .fill-${role}`).count(), role).toBeGreaterThan(0);
  }
  expect(await page.textContent('#readout')).toMatch(/sees .* of .* 4 sinks, 24 carried/);
  await page.selectOption('#lens', { label: 'Layer 2, head 1' });
  await expect.poll(() => page.textContent('#readout')).toMatch(/4 sinks, 8 retrieved/);
  expect(await page.locator('#mask .fill-retrieved').count()).toBeGreaterThan(3);
  expect(await page.locator('#mask .fill-carry').count()).toBe(0);

  const width = (part: string): Promise<number> => page.$eval(part, probes.widthOf);
  expect(await width('#bar-full i')).toBe(100);
  for (const part of ['carry', 'sinks', 'pool', 'retrieved', 'open']) {
    const share = await width(`#bar-held [data-part=${part}]`);
    expect(share).toBeGreaterThan(0);
    expect(share).toBeLessThan(60);
  }
  expect(complaints).toEqual([]);
});

test('pointing at a token lights what it sees and nothing else', async () => {
  await show();
  await page.click('#tab-cut');
  const text = TEXT.repeat(2);
  await page.fill('#text', text);
  const plan = await planOf(text);
  await expect.poll(() => page.locator('#sequence .t').count()).toBe(plan.tokens.length);
  const at = plan.segments[2].start + 5;
  await page.locator(`#sequence .t[data-i="${at}"]`).hover();
  await expect.poll(() => page.locator('#sequence .t.at').count()).toBe(1);
  const lit = (role: string): Promise<number[]> =>
    page.$$eval(`#sequence .see-${role}`, probes.positions);
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  const s = plan.segments[2].start;
  expect(await lit('sinks')).toEqual(range(0, 4));
  expect(await lit('carry')).toEqual(range(s - 24, s));
  expect(await lit('own')).toEqual(range(s, at + 1));
  await page.mouse.move(5, 5);
  await expect.poll(() => page.locator('#sequence.lit').count()).toBe(0);
});

test('the conversation goes on, and Stop frees the session', async () => {
  await show({ delayMs: 10 });
  await mostTokens(20);
  for (const [turn, text] of ['First.', 'Second.'].entries()) {
    await page.fill('#message', text);
    await page.click('#send');
    await expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(turn + 1);
  }
  const shown = (await bands()).join('');
  const first = await page.locator('.bubble.assistant').first().textContent();
  expect(shown).toContain(`<|user|>First.<|end|><|assistant|>${first}<|end|><|user|>Second.`);
  await mostTokens(5000);
  await page.fill('#message', 'Third.');
  await page.click('#send');
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
  await page.route('**/lockstep/contract', async (route) => {
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

test('errors are said in words, and the message is not lost', async () => {
  await show({ failAt: 30 }, { maxTokens: 400, maxBodyBytes: 20_000 });
  await mostTokens(100);
  await page.fill('#message', 'A message that fails on its way.');
  await page.click('#send');
  await expect.poll(() => page.textContent('#alert')).toContain('expected finite logits');
  expect(await page.inputValue('#message')).toBe('A message that fails on its way.');
  await page.click('#alert button');
  expect(await page.isVisible('#alert')).toBe(false);
  engine.faults = {};
  await page.fill('#message', 'x'.repeat(500));
  await page.click('#send');
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

test('the keyboard reaches everything, and what is drawn has words', async () => {
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

test('five hundred segments are still seen in the strip', async () => {
  await show();
  await page.click('#tab-cut');
  await page.fill('#text', ' A sentence of seventeen.'.repeat(501));
  const strip = '#strip svg [class^="band-"]';
  await expect.poll(() => page.locator(strip).count()).toBe(501);
  expect(await page.locator('#strip .cutline').count()).toBe(0);
  // The row's own colour is nowhere to be seen: its segments cover it.
  const share = await page.$$eval(strip, probes.covered);
  expect(share).toBeGreaterThan(0.98);
});

test('text from right to left leaves the badges as they are', async () => {
  await show();
  await page.click('#tab-cut');
  await page.fill('#text', 'הגשם ירד בחוזקה. הוא לא פסק? לא. '.repeat(6));
  await expect.poll(() => page.locator('#sequence .tag').count()).toBeGreaterThan(3);
  for (const tag of await page.locator('#sequence .tag').all()) {
    const [index, dot, tokens]: Any = await tag.evaluate(probes.wordPlaces);
    expect(index).toBeLessThan(dot);
    expect(dot).toBeLessThan(tokens);
  }
  // Reading from the right: the first band comes first there, and its full stop is left of its words.
  expect(await page.locator('#sequence').evaluate(probes.direction)).toBe('rtl');
  const left = async (part: string, at: number) =>
    (await page.locator(part).nth(at).boundingBox())?.x ?? Number.NaN;
  expect(await left('#sequence .tag', 1)).toBeLessThan(await left('#sequence .tag', 0));
  const stop = (await page.locator('#sequence .t').allTextContents()).indexOf('.');
  expect(await left('#sequence .t', stop)).toBeLessThan(await left('#sequence .t', stop - 1));
  // A band in English keeps its full stop on the right.
  await page.fill('#text', 'הגשם ירד בחוזקה. It did not stop at all.');
  await expect.poll(() => page.locator('#sequence .tag').count()).toBe(2);
  const last = (await page.locator('#sequence .t').count()) - 1;
  expect(await left('#sequence .t', last)).toBeGreaterThan(await left('#sequence .t', last - 1));
  await page.click('#tab-chat');
  await mostTokens(4);
  await page.fill('#message', 'הגשם ירד.');
  await page.click('#send');
  await page.waitForSelector('.meta');
  expect(await page.locator('.bubble.user').evaluate(probes.direction)).toBe('rtl');
  // The template's tokens come first, and do not turn it.
  expect(await page.locator('#sequence').evaluate(probes.direction)).toBe('rtl');
});

test('a reload keeps the conversation, and it goes on; Clear forgets it', async () => {
  await show();
  await mostTokens(60);
  await page.fill('#message', TEXT.repeat(2));
  await page.click('#send');
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
  await page.fill('#message', 'Second.');
  await page.click('#send');
  await expect.poll(() => page.locator('.meta').count()).toBe(2);
  const shown = (await bands()).join('');
  expect(shown).toContain(`<|assistant|>${answer}<|end|><|user|>Second.`);
  await page.click('#clear');
  await page.reload();
  await page.waitForSelector('.empty');
  expect(await page.locator('.bubble').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('a reload in the midst of an answer keeps what there is, and what was written', async () => {
  await show({ delayMs: 10 });
  await page.click('.settings summary');
  await page.fill('#system', 'Be brief.');
  await page.fill('#most', '5000');
  await page.fill('#message', 'First.');
  await page.click('#send');
  await expect.poll(() => page.locator('.bubble.assistant').textContent()).toMatch(/.{5}/);
  await page.fill('#message', 'Not yet sent.');
  const written = (await page.locator('.bubble.assistant').textContent()) ?? '';
  await page.reload();
  await page.waitForSelector('.bubble');
  expect(await page.locator('.bubble.user').textContent()).toBe('First.');
  expect(await page.locator('.bubble.assistant').textContent()).toContain(written);
  expect(await page.textContent('.meta')).toBe('Broken off.');
  expect(await page.inputValue('#message')).toBe('Not yet sent.');
  expect(await page.inputValue('#system')).toBe('Be brief.');
  await expect.poll(() => engine.sessions).toBe(0);
});

test('a conversation of another contract is not shown', async () => {
  await show();
  await mostTokens(4);
  await page.fill('#message', 'First.');
  await page.click('#send');
  await page.waitForSelector('.meta');
  // Before the page's own script: what it leaves when it goes is of this contract.
  await page.addInitScript(probes.otherContract);
  await page.reload();
  await page.waitForSelector('.empty');
  expect(await page.locator('.bubble').count()).toBe(0);
});

test('a system message is sent first, is shown, and may be changed', async () => {
  await show();
  await page.click('.settings summary');
  await page.fill('#system', 'Be brief.');
  await page.fill('#most', '5');
  await page.click('.settings summary');
  for (const [turn, text] of ['First.', 'Second.'].entries()) {
    await page.fill('#message', text);
    await page.click('#send');
    await expect.poll(() => page.locator('.meta').count()).toBe(turn + 1);
  }
  const shown = async () => (await bands()).join('');
  expect(await shown()).toContain('<|system|>Be brief.<|end|><|user|>First.');
  expect(await shown()).toContain('<|user|>Second.');
  expect(await page.locator('.bubble.system').textContent()).toBe('Be brief.');
  await page.reload();
  await page.click('.settings summary');
  expect(await page.inputValue('#system')).toBe('Be brief.');
  await page.fill('#system', '');
  await page.fill('#message', 'Third.');
  await page.click('#send');
  await expect.poll(() => page.locator('.meta').count()).toBe(3);
  expect(await shown()).toMatch(/^<\|user\|>First/);
  expect(await page.locator('.bubble.system').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('an engine that died is said beside the composer, with what to do, and the chips say it', async () => {
  await show({ failAt: 40, failCode: 'LS_ENGINE_CRASHED' });
  for (let i = 0; i < 2; i++) {
    await page.fill('#message', TEXT);
    await page.click('#send');
    await expect.poll(() => page.textContent('#alert')).toContain('engine has stopped');
    const alert = await page.textContent('#alert');
    expect(alert).toContain('lockstep serve');
    expect(alert).not.toContain('Try again in');
    expect(alert).not.toContain('sessions start anew');
    expect(await page.locator('.chip.bad').allTextContents()).toEqual(['engine stopped']);
    const [said, form] = await Promise.all(
      ['#alert', '#composer'].map((part) => page.locator(part).boundingBox()),
    );
    expect(said?.y).toBeGreaterThan(0);
    expect((said?.y ?? 0) + (said?.height ?? 0)).toBeLessThanOrEqual(form?.y ?? 0);
    expect((form?.y ?? 0) + (form?.height ?? 0)).toBeLessThanOrEqual(900);
    expect(await page.inputValue('#message')).toBe(TEXT);
  }
});

test('it fits a narrow screen', async () => {
  await page.setViewportSize({ width: 400, height: 860 });
  await show();
  await page.waitForSelector('.chip');
  await mostTokens(60);
  await page.fill('#message', TEXT);
  await page.click('#send');
  await expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(1);
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
