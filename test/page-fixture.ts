// Set-up of the page tests: one Chromium a file, and for each test a page in front of a real server and a toy engine.
import { rm } from 'node:fs/promises';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import {
  createServer,
  type LockstepServer,
  type ServerOptions,
  type ServerParts,
} from '../src/server/index.ts';
import { complaintsOf, launch } from './browser.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
export type Any = any;

// What runs inside the browser, in JavaScript: the rest of the project has no DOM types.
export const probes: Any = await import(new URL('page-probes.js', import.meta.url).href);

// Of the test that runs.
export let toy: Toy;
export let page: Page;
export let engine: ToyEngine;
export let server: LockstepServer | null = null;
export let url: string;
/** Errors, warnings and requests to foreign places. */
export let complaints: string[];

/**
 * Call once in a test file.
 *
 * @param timeoutMs how long the page may take for what it is asked
 */
export function usePages(timeoutMs = 15_000): void {
  let browser: Browser;
  beforeAll(async () => {
    [toy, browser] = await Promise.all([makeToy(), launch()]);
  });
  beforeEach(async () => {
    page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
    page.setDefaultTimeout(timeoutMs);
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
}

/** Open the page of a server in front of a toy engine. */
export async function show(faults: ToyFaults = {}, options: ServerOptions = {}): Promise<void> {
  engine = new ToyEngine(toy, faults);
  await showServer({
    engine,
    tokenizer: toy.tokenizer,
    contract: toy.files,
    options: { model: 'toy', drainMs: 100, ...options },
  });
}

/** Open the page of a server. */
export async function showServer(parts: ServerParts): Promise<void> {
  server = createServer(parts);
  ({ url } = await server.listen(0));
  complaints = complaintsOf(page, url);
  await page.goto(url);
}

/** Write into fields of the settings, which are closed before and after. */
export async function set(fields: Record<string, string>): Promise<void> {
  await page.click('.settings summary');
  for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, value);
  await page.click('.settings summary');
}

/** Send a message. The answer need not have begun. */
export async function say(text: string): Promise<void> {
  await page.fill('#message', text);
  await page.click('#send');
}

/** Wait until so many answers have ended. */
export function answered(count: number): Promise<void> {
  return expect.poll(() => page.locator('.meta').count(), { timeout: 20_000 }).toBe(count);
}

/** The bands that are shown: each segment's text, without its tag. */
export function bands(): Promise<string[]> {
  return page.$$eval('#sequence .seg', probes.bandTexts);
}

/** What the server's planner says of a text. */
export async function planOf(text: string): Promise<Any> {
  const response = await fetch(`${url}/lockstep/plan`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text }),
  });
  return response.json();
}

export const TEXT =
  'The rain fell in torrents. It stopped? It did not!\nRattling along the housetops, and fiercely agitating the scanty flame of the lamps — été ☃.';
