// Several models behind one page: the choice, a chat for each, and models that come, go and change meanwhile.
import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { violationsEverywhere } from './helpers/accessibility.ts';
import {
  type Any,
  answered,
  complaints,
  page,
  planOf,
  probes,
  say,
  server,
  set,
  show,
  showServer,
  TEXT,
  toy,
  usePages,
} from './page-fixture.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

usePages();
// axe-core judges eight views in some tests.
vi.setConfig({ testTimeout: 240_000 });

/** Of another token, so of another contract. */
let other: Toy;
beforeAll(async () => {
  other = await makeToy(undefined, ['<|more|>']);
});
afterAll(() => rm(other.dir, { recursive: true, force: true }));

const partsOf = (of: Toy, name: string, faults: ToyFaults = {}, more: object = {}) => ({
  name,
  engine: new ToyEngine(of, faults),
  tokenizer: of.tokenizer,
  contract: of.files,
  ...more,
});

async function showTwo(faults: ToyFaults[] = []): Promise<void> {
  const models = [
    partsOf(toy, 'one', faults[0]),
    partsOf(other, 'two', faults[1], { maxTokens: 500 }),
  ];
  await showServer({ models, options: { drainMs: 100 } });
  await page.waitForSelector('.chip.warn');
}

/** The page looks every few seconds, and the machine may be busy. */
const WAIT = { timeout: 20_000 };

const listed = (): Promise<string[]> => page.locator('#model option').allTextContents();
const chosen = (): Promise<string> => page.inputValue('#model');
const choose = (name: string) => page.selectOption('#model', name);
const digestShown = () => page.locator('.chip .digest').getAttribute('title');
const notice = () => page.textContent('#alert');
/** What the server serves from now on, as after a SIGHUP. */
const serve = (list: Any[]) => server?.serve(list);
const models = () => [...(server?.models ?? [])];
const again = async (parts: Any) => ({
  model: (await server?.prepare(parts)) as Any,
  aliases: [],
});

describe('one model', () => {
  test('has no choice, and no state to look for', async () => {
    await show();
    await page.waitForSelector('.chip.warn');
    expect(await page.isVisible('#choice')).toBe(false);
    expect(await page.locator('.chip').allTextContents()).toEqual([
      'toy',
      'toy fp32',
      expect.stringContaining('digest'),
      'not trained under this contract',
    ]);
    expect(await page.isVisible('#alert')).toBe(false);
  });
});

describe('the choice', () => {
  test('lists name, engine and state, and draws the contract of the chosen model', async () => {
    await showTwo();
    expect(await listed()).toEqual(['one · toy fp32 · ready', 'two · toy fp32 · ready']);
    expect(await chosen()).toBe('one');
    expect(await digestShown()).toBe(toy.files.contract.digest);
    await page.focus('#model');
    await page.keyboard.press('ArrowDown');
    await expect.poll(digestShown).toBe(other.files.contract.digest);
    expect(await chosen()).toBe('two');
    expect(await page.title()).toBe('Lockstep: two');
    expect(await page.locator('#model').evaluate(probes.focused)).toBe(true);
    expect(await page.getAttribute('#most', 'max')).toBe('500');
    expect(await page.innerText('#facts')).toContain('500 tokens');
    expect(await page.isVisible('.on-paper')).toBe(false);
    await page.emulateMedia({ media: 'print' });
    expect(await page.textContent('.on-paper')).toBe('two');
    expect(await page.isVisible('.on-paper')).toBe(true);
    expect(await page.isVisible('#choice')).toBe(false);
    await page.emulateMedia({ media: 'screen' });
    await page.click('#tab-cut');
    await page.fill('#text', `${TEXT} <|more|>`);
    await expect
      .poll(() => page.locator('#sequence .t.special').allTextContents())
      .toEqual(['<|more|>']);
    await choose('one');
    // The text is cut again, by the other model's tokenizer and policy.
    const { segments } = await planOf(`${TEXT} <|more|>`);
    await expect.poll(() => page.locator('#sequence .seg').count()).toBe(segments.length);
    await expect.poll(() => page.locator('#sequence .t.special').count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('each model has its chat, its system message and its drawing, over a reload too', async () => {
    await showTwo();
    await set({ most: '8', system: 'Be brief.' });
    await say('For one.');
    await answered(1);
    const seen = await page.locator('#sequence').innerText();
    await choose('two');
    await page.waitForSelector('.empty');
    expect(await page.inputValue('#system')).toBe('');
    await say('For two.');
    await answered(1);
    expect(await page.locator('.bubble.user').allTextContents()).toEqual(['For two.']);
    await page.fill('#message', 'Not yet sent.');
    await choose('one');
    await expect.poll(() => page.locator('.bubble.user').allTextContents()).toEqual(['For one.']);
    await expect.poll(() => page.locator('#sequence').innerText()).toBe(seen);
    expect(await page.inputValue('#system')).toBe('Be brief.');
    // What is written and not yet sent goes along.
    expect(await page.inputValue('#message')).toBe('Not yet sent.');
    await choose('two');
    await expect.poll(() => page.title()).toBe('Lockstep: two');
    await page.reload();
    await expect.poll(() => page.locator('.bubble.user').allTextContents()).toEqual(['For two.']);
    expect(await chosen()).toBe('two');
    await choose('one');
    await expect.poll(() => page.locator('.bubble.user').allTextContents()).toEqual(['For one.']);
    expect(complaints).toEqual([]);
  });

  test('an answer goes on while another model is looked at', async () => {
    await showTwo([{ delayMs: 10 }]);
    await set({ most: '60' });
    await say('A question for one.');
    await expect.poll(() => page.textContent('.bubble.assistant')).not.toBe('');
    await choose('two');
    await page.waitForSelector('.empty');
    expect(await page.textContent('#send')).toBe('Send');
    await say('And one for two.');
    await answered(1);
    await choose('one');
    await answered(1);
    expect(await page.textContent('.meta')).toContain('60 written');
  });
});

describe('models that come, go and change', () => {
  test('the chosen one is removed: it is said above the message, and another is chosen', async () => {
    await showTwo();
    await choose('two');
    await set({ most: '4' });
    await say('A question.');
    await answered(1);
    await page.fill('#message', 'The next one.');
    void serve(models().slice(0, 1));
    await expect
      .poll(notice, WAIT)
      .toContain('The server no longer serves two. one is chosen now.');
    const [said, form] = await Promise.all(
      ['#alert', '#composer'].map((part) => page.locator(part).boundingBox()),
    );
    expect((said?.y ?? 1e9) + (said?.height ?? 0)).toBeLessThanOrEqual(form?.y ?? 0);
    expect(await page.inputValue('#message')).toBe('The next one.');
    // Its conversation can still be read, and nothing more be asked.
    expect(await listed()).toEqual(['one · toy fp32 · ready', 'two · toy fp32 · no longer served']);
    expect(await violationsEverywhere(page)).toEqual([]);
    await page.click('#alert button >> nth=0');
    await expect
      .poll(() => page.locator('.bubble.user').allTextContents())
      .toEqual(['A question.']);
    expect(await page.locator('#message').evaluate(probes.focused)).toBe(true);
    await page.click('#send');
    await expect.poll(notice, WAIT).toContain('`two` is not served here'.replaceAll('`', ''));
    expect(await page.inputValue('#message')).toBe('The next one.');
  });

  test('removed while it answers: the answer ends, then another is chosen', async () => {
    const slow: ToyFaults = { delayMs: 500 };
    await showTwo([{}, slow]);
    await choose('two');
    await set({ most: '120' });
    await say('A question.');
    await expect.poll(() => page.textContent('.bubble.assistant')).not.toBe('');
    void serve(models().slice(0, 1));
    await expect.poll(notice, WAIT).toContain('This answer is its last.');
    expect(await chosen()).toBe('two');
    slow.delayMs = 1;
    await expect.poll(notice, WAIT).toContain('one is chosen now.');
    await page.click('#alert button >> nth=0');
    await expect.poll(() => page.textContent('.meta')).toContain('120 written');
    expect(complaints).toEqual([]);
  });

  test('loaded again with another contract: the chat goes on under it', async () => {
    await showTwo();
    await set({ most: '4' });
    await say('First.');
    await answered(1);
    const [, two] = models();
    const replaced = await again(partsOf(other, 'one', {}, { maxTokens: 300 }));
    void serve([replaced, two]);
    await expect
      .poll(notice, WAIT)
      .toContain('has loaded one again, with another contract. The next answer runs under it.');
    expect(await digestShown()).toBe(other.files.contract.digest);
    expect(await page.getAttribute('#most', 'max')).toBe('300');
    await say('Second. <|more|>');
    await answered(2);
    await expect.poll(() => page.locator('#sequence').innerText()).toContain('First.');
    await expect
      .poll(() => page.locator('#sequence .t.special').allTextContents())
      .toContain('<|more|>');
    expect(complaints).toEqual([]);
  });

  test('one that was not there comes: the choice appears, and goes with the last but one', async () => {
    await showServer({ models: [partsOf(toy, 'one')], options: { drainMs: 100 } });
    await page.waitForSelector('.chip.warn');
    expect(await page.isVisible('#choice')).toBe(false);
    const added = await again(partsOf(other, 'two'));
    void serve([...models(), added]);
    await expect.poll(notice, WAIT).toContain('The server now serves two.');
    expect(await page.isVisible('#choice')).toBe(true);
    await page.click('#alert button');
    void serve(models().slice(0, 1));
    await expect.poll(notice, WAIT).toContain('The server no longer serves two.');
    expect(await page.isVisible('#choice')).toBe(false);
  });

  test('an engine has stopped: the list says which, and what to do fits several models', async () => {
    await showTwo([{}, { failAt: 40, failCode: 'LS_ENGINE_CRASHED' }]);
    await choose('two');
    await expect.poll(() => page.title()).toBe('Lockstep: two');
    await say(TEXT);
    await expect.poll(notice, WAIT).toContain('two cannot answer any more. Choose another model');
    await expect
      .poll(listed)
      .toEqual(['one · toy fp32 · ready', 'two · toy fp32 · engine stopped']);
    expect(await page.locator('.chip.bad').allTextContents()).toEqual(['engine stopped']);
    await choose('one');
    await page.waitForSelector('.chip.warn');
    expect(await page.locator('.chip.bad').count()).toBe(0);
    expect(await page.isVisible('#alert')).toBe(false);
  });
});

describe('how it looks', () => {
  const LONG = 'stories-135m-instruct-trained-on-long-novels-of-the-nineteenth-century-v2.1';

  test.each([LONG, 'סיפורים-קצרים'])('a model named %s fits both screens', async (name) => {
    const models = [partsOf(toy, 'one'), partsOf(toy, name)];
    await showServer({ models, options: { drainMs: 100 } });
    await page.waitForSelector('.chip.warn');
    await choose(name);
    await expect.poll(() => page.title()).toBe(`Lockstep: ${name}`);
    expect(await violationsEverywhere(page)).toEqual([]);
    for (const [width, height] of [
      [1400, 900],
      [390, 844],
    ] as const) {
      await page.setViewportSize({ width, height });
      expect(await page.evaluate(probes.overflow)).toBeLessThanOrEqual(0);
      for (const part of ['#model', '#message', '#send']) {
        const box = await page.locator(part).boundingBox();
        expect((box?.x ?? 1e9) + (box?.width ?? 0), part).toBeLessThanOrEqual(width);
        expect((box?.y ?? 1e9) + (box?.height ?? 0), part).toBeLessThanOrEqual(height);
      }
      expect(await page.$$eval('#model', probes.small)).toEqual([]);
      expect(await page.$$eval('#model', probes.wordless)).toEqual([]);
    }
  });

  test('what is said is in view where the page is scrolled away from the message', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await showTwo();
    await page.evaluate('scrollTo(0, 1200)');
    void serve(models().slice(1));
    await expect.poll(notice, WAIT).toContain('two is chosen now.');
    const box = await page.locator('#alert').boundingBox();
    expect(box?.y).toBeGreaterThanOrEqual(0);
    expect((box?.y ?? 1e9) + (box?.height ?? 0)).toBeLessThanOrEqual(844);
    expect(await page.evaluate('scrollY')).toBeGreaterThan(900);
  });
});
