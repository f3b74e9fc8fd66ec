import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
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
  });
});
