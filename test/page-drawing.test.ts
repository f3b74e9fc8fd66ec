// The page draws the segments of a text, what each token sees, and what is held in memory.
import { expect, test } from 'vitest';
import {
  type Any,
  answered,
  bands,
  complaints,
  page,
  planOf,
  probes,
  say,
  set,
  show,
  TEXT,
  usePages,
} from './page-fixture.ts';

usePages();

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
  await show({ delayMs: 20 });
  await set({ most: '120' });
  await page.evaluate(probes.recordHeld);
  await page.fill('#message', TEXT);
  await page.keyboard.press('Enter');
  await answered(1);
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

test('pointing at a token highlights exactly the tokens that it sees', async () => {
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

test('five hundred segments are still visible in the strip', async () => {
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

test('text from right to left does not reverse the badges of segments', async () => {
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
  await set({ most: '4' });
  await say('הגשם ירד.');
  await page.waitForSelector('.meta');
  expect(await page.locator('.bubble.user').evaluate(probes.direction)).toBe('rtl');
  // The template's tokens come first, and do not turn it.
  expect(await page.locator('#sequence').evaluate(probes.direction)).toBe('rtl');
});
