import fs from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AuditLog } from './audit.ts';

let root: string;
afterEach(() => rm(root, { recursive: true, force: true }));

describe('AuditLog', () => {
  it('goes on in the open file where it cannot be opened again, and tells so once', async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'lockstep-audit-'));
    const folder = path.join(root, 'logs');
    const file = path.join(folder, 'audit.jsonl');
    await mkdir(folder);
    const told: string[] = [];
    const log = new AuditLog(file, (error) => told.push(`${(error as { code?: string }).code}`));
    const eventsIn = async (where: string) =>
      (await readFile(where, 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).event);
    await sleep(10);
    const away = path.join(root, 'away');
    await rename(folder, away);
    for (let i = 0; i < 2; i++) {
      log.reopen();
      log.write(`without ${i}`, {});
      await sleep(10);
    }
    expect(told).toEqual(['LS_AUDIT_FILE', 'LS_AUDIT_FILE']);
    expect(await eventsIn(path.join(away, 'audit.jsonl'))).toEqual(['without 0', 'without 1']);
    await mkdir(folder);
    log.reopen();
    log.write('again', {});
    // A file that is closed twice shows as an error.
    await sleep(50);
    expect(told).toHaveLength(2);
    expect(await eventsIn(file)).toEqual(['again']);
    log.close();
    expect([log.failed, log.lost]).toEqual([0, 0]);
  });

  it('keeps lines that cannot be written until they can be, but not without end', async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'lockstep-audit-'));
    const file = path.join(root, 'audit.jsonl');
    const told: string[] = [];
    const log = new AuditLog(
      file,
      (error) => told.push((error as { code?: string }).code ?? ''),
      300,
    );
    const events = async () =>
      (await readFile(file, 'utf8'))
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line).event);
    log.write('0', {});
    // A full disk.
    const full = vi.spyOn(fs, 'writeSync').mockImplementation(() => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    });
    for (let i = 1; i <= 8; i++) log.write(String(i), {});
    expect(told).toEqual(Array(8).fill('ENOSPC'));
    const kept = 8 - log.lost;
    expect([log.failed, kept]).toEqual([8, 6]);
    full.mockRestore();
    // The line for which there is no room makes the others be written.
    log.write('9', {});
    log.write('10', {});
    expect(await events()).toEqual(['0', '1', '2', '3', '4', '5', '6', '10']);
    expect([log.failed, log.lost, told.length]).toEqual([8, 3, 8]);
    log.close();
  });

  it.runIf(process.platform === 'linux')(
    'writes what waits to the file that a rotation opens',
    async () => {
      root = await mkdtemp(path.join(os.tmpdir(), 'lockstep-audit-'));
      const file = path.join(root, 'audit.jsonl');
      await symlink('/dev/full', file);
      const told: string[] = [];
      const log = new AuditLog(file, (error) => told.push((error as { code?: string }).code ?? ''));
      for (const event of ['one', 'two']) log.write(event, {});
      expect([told, log.failed, log.lost]).toEqual([['ENOSPC', 'ENOSPC'], 2, 0]);
      await rm(file);
      expect(log.reopen()).toBe(true);
      const lines = (await readFile(file, 'utf8')).trim().split('\n');
      expect(lines.map((line) => JSON.parse(line).event)).toEqual(['one', 'two']);
      log.close();
    },
  );
});
