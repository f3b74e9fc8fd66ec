// The page says that its engine has stopped.
import { expect, test } from 'vitest';
import { page, say, show, TEXT, usePages } from './page-fixture.ts';

usePages();

test('a stopped engine is shown above the composer, with what to do, and as a chip', async () => {
  await show({ failAt: 40, failCode: 'LS_ENGINE_CRASHED' });
  for (let i = 0; i < 2; i++) {
    await say(TEXT);
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
