import { getEventListeners } from 'node:events';
import { expect, it } from 'vitest';
import { nextChange } from './watch.ts';

it('a look for changes that has stopped is no longer told of the end', async () => {
  const { signal } = new AbortController();
  const change = nextChange([import.meta.filename], signal);
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  change.stop();
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

it('the end of the whole ends a look', async () => {
  const controller = new AbortController();
  const change = nextChange([], controller.signal);
  controller.abort();
  expect(await change.changed).toBeUndefined();
  change.stop();
});
