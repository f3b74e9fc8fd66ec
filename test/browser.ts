// A real Chromium for page tests: CHROMIUM_BIN, or the first one on PATH.
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome'];
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function findChromium(env: NodeJS.ProcessEnv = process.env): string {
  const named = env['CHROMIUM_BIN'];
  const folders = (env['PATH'] ?? '').split(path.delimiter);
  const candidates = named
    ? [named]
    : folders.flatMap((folder) => NAMES.map((name) => path.join(folder, name)));
  for (const file of candidates) {
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // The next one may do.
    }
  }
  throw new Error(
    `expected Chromium for the page tests, got none ${named ? `at CHROMIUM_BIN=${named}` : 'on PATH'}; install it (apt-get install chromium) or set CHROMIUM_BIN`,
  );
}

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: findChromium(), args: FLAGS });
}

/** What a page complained about: errors, warnings, failed requests, foreign requests. */
export function complaintsOf(page: Page, origin: string): string[] {
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith('data:')) complaints.push(`foreign: ${url}`);
  });
  return complaints;
}
