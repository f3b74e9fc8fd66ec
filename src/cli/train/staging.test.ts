import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { stagingFolder } from './staging.ts';

it('removes what killed processes left, and nothing else', async () => {
  const parent = await mkdtemp(path.join(tmpdir(), 'staging-'));
  const out = path.join(parent, 'model');
  const living = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const killed = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  const stay = [
    `.model.start-${living.pid}`,
    '.model.start-mine',
    `.other.start-${killed.pid}`,
    'model',
  ];
  const go = [
    `.model.start-${killed.pid}`,
    `.model.start-${killed.pid}.0123abcd.tmp`,
    `.model.start-${process.pid}`,
  ];
  for (const name of [...stay, ...go]) {
    await mkdir(path.join(parent, name));
    // A removal that was interrupted leaves some files, the contract not among them.
    await writeFile(path.join(parent, name, 'config.json'), '{}');
  }
  try {
    expect(await stagingFolder(out)).toBe(path.join(parent, `.model.start-${process.pid}`));
    expect((await readdir(parent)).sort()).toEqual(stay.sort());
    expect(await stagingFolder(path.join(parent, 'none', 'model'))).toContain('none');
  } finally {
    living.kill();
  }
});
