import { expect, test } from 'vitest';
import { dataIn } from './data.ts';

test('a project that was trained once: only its texts are data', () => {
  const folders = [
    { path: '/p', files: ['lockstep.config.ts', 'package.json'] },
    { path: '/p/my texts', files: ['a.txt', 'b.txt'] },
    { path: '/p/.lockstep/texts', files: ['c.txt'] },
    { path: '/p/.lockstep/cache/c54e', files: ['meta.json'] },
    { path: '/p/runs/mine', files: ['config.json', 'lockstep.json', 'probe.json'] },
    { path: '/p/runs/mine/adapter', files: ['lockstep-adapter.json', 'probe.json'] },
    { path: '/p/runs/mine/training', files: ['state.json', 'clock.json'] },
    { path: '/p/runs/other', files: ['notes.jsonl'] },
    { path: '/p/.lockstep/cache', files: [] },
  ];
  expect(dataIn(folders, []).map(({ pattern }) => pattern)).toEqual([
    '/p/my texts/*.txt',
    '/p/.lockstep/texts/c.txt',
    '/p/runs/other/notes.jsonl',
  ]);
});
