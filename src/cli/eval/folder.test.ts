import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { canMount, mountSmall } from '../../../test/helpers/small-disk.ts';
import { openFolder } from './folder.ts';

it.skipIf(!canMount())(
  'a full disk leaves no half identity, which would be another evaluation',
  async () => {
    const disk = mkdtempSync(path.join(os.tmpdir(), 'ls-eval-'));
    const unmount = mountSmall(disk, '32k');
    try {
      const out = path.join(disk, 'out');
      const identity = { text: 'x'.repeat(20_000) };
      writeFileSync(path.join(disk, 'most'), Buffer.alloc(16_000));
      await expect(openFolder(out, identity)).rejects.toMatchObject({ code: 'LS_EVAL_OUT' });
      expect(existsSync(path.join(out, 'eval.json'))).toBe(false);
      rmSync(path.join(disk, 'most'));
      const { dir } = await openFolder(out, identity);
      expect(JSON.parse(readFileSync(path.join(dir, 'eval.json'), 'utf8'))).toEqual(identity);
    } finally {
      unmount();
      rmSync(disk, { recursive: true });
    }
  },
);

it('an identity that cannot be read is no folder of other files', async () => {
  const out = mkdtempSync(path.join(os.tmpdir(), 'ls-eval-'));
  try {
    mkdirSync(path.join(out, 'eval.json'));
    await expect(openFolder(out, {})).rejects.toMatchObject({
      code: 'LS_EVAL_OUT',
      message: expect.stringContaining('got EISDIR'),
    });
  } finally {
    rmSync(out, { recursive: true });
  }
});
