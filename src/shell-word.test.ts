import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { shellWord } from './shell-word.ts';

test('plain words stay as they are', () => {
  expect(shellWord('runs/my-model_1.2')).toBe('runs/my-model_1.2');
});

test.each(['my model', "it's", 'a"b', '$HOME', 'a;b', '*', ''])('a shell reads %j back', (word) => {
  const command = `printf %s ${shellWord(word)}`;
  expect(execFileSync('sh', ['-c', command], { encoding: 'utf8' })).toBe(word);
});
