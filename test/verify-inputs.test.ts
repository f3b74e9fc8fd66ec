// What verify takes: checkpoints that nobody changed, and texts of the user.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { verify } from '../src/engines/verify/index.ts';
import type { LockstepError } from '../src/errors.ts';
import { failure } from './helpers/failure.ts';
import { useVerified } from './verify-fixture.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const tokens = 160;
const made = useVerified();

describe('verify', () => {
  it('refuses checkpoints that were changed by hand', async () => {
    const changed = (
      name: string,
      file: string,
      edit: (text: string) => string,
    ): Promise<LockstepError> => {
      const copy = path.join(made.folder, name);
      cpSync(made.dir, copy, { recursive: true });
      writeFileSync(path.join(copy, file), edit(readFileSync(path.join(copy, file), 'utf8')));
      const engines = new Map([['torch', made.torch]]);
      return failure(verify({ dir: copy, tokens, python: made.python, engines }));
    };
    const digest = await changed('x1', 'lockstep.json', (text) =>
      text.replace(/("carry": ?\{[^}]*"size": ?)12/, '$113'),
    );
    expect(digest.code).toBe('LS_CONTRACT_DIGEST');
    expect((await changed('x2', 'policy.js', (text) => `${text}\n`)).code).toBe(
      'LS_CONTRACT_POLICY',
    );
    expect((await changed('x3', 'tokenizer.json', (text) => `${text} `)).code).toBe(
      'LS_CONTRACT_TOKENIZER',
    );
    expect(
      (await changed('x4', 'config.json', (text) => text.replace('SegmentedLlama', 'Llama'))).code,
    ).toBe('LS_CONTRACT_ARCHITECTURE');
  });

  it('takes a text of the user: short, missing, not UTF-8', async () => {
    const text = path.join(made.folder, 'short.txt');
    writeFileSync(text, 'One sentence. And another.\n');
    const engines = new Map([['torch', made.torch]]);
    const report = await verify({ dir: made.dir, text, python: made.python, threads: 1, engines });
    expect(report).toMatchObject({ ok: true });
    expect(report.engines[0]?.tokens).toBeLessThan(28);
    const refused = async (file: string): Promise<string> =>
      (await failure(verify({ dir: made.dir, text: file, python: made.python, engines }))).code;
    expect(await refused('/nowhere.txt')).toBe('LS_TEXT_MISSING');
    writeFileSync(text, Buffer.from([0x61, 0xff, 0x62]));
    expect(await refused(text)).toBe('LS_TEXT_ENCODING');
    writeFileSync(text, '');
    expect(await refused(text)).toBe('LS_TEXT_SHORT');
  });
});
