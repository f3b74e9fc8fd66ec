import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { ended } from '../../test/processes.ts';
import { builtModule } from '../paths.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'lockstep-private-'));
const running: ChildProcess[] = [];
const helpers: number[] = [];
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
  for (const pid of helpers.splice(0)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A process with a private folder in `scratch`, and one that it started in turn. */
async function start(): Promise<{ child: ChildProcess; folder: string; helper: number }> {
  const program = `
    import { spawn } from 'node:child_process';
    import { childEnvironment, privateFolder } from ${JSON.stringify(builtModule('bridge/index.js').href)};
    const env = childEnvironment();
    const helper = spawn('sleep', ['600'], { env, detached: true, stdio: 'ignore' });
    console.log(JSON.stringify({ folder: privateFolder(), helper: helper.pid }));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, TMPDIR: scratch },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  const [line] = await once(
    createInterface({ input: child.stdout as NodeJS.ReadableStream }),
    'line',
  );
  const made = JSON.parse(line) as { folder: string; helper: number };
  helpers.push(made.helper);
  return { child, ...made };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe.skipIf(process.platform !== 'linux')('the folder of a process that was killed', () => {
  it('stays as long as a child of it lives, and is then removed by the next process', async () => {
    const killed = await start();
    writeFileSync(path.join(killed.folder, 'file'), 'x');
    await kill(killed.child);
    const living = await start();
    expect(existsSync(killed.folder)).toBe(true);
    process.kill(killed.helper, 'SIGKILL');
    await ended(killed.helper);
    await start();
    expect(existsSync(killed.folder)).toBe(false);
    // Nobody touches the folder of a process that lives.
    expect(existsSync(living.folder)).toBe(true);
  });

  it('is known by more than the process id, which another process may have by now', async () => {
    const killed = await start();
    process.kill(killed.helper, 'SIGKILL');
    await kill(killed.child);
    await ended(killed.helper);
    const file = path.join(killed.folder, '.owner.json');
    const owner = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...owner, pid: process.pid }));
    await start();
    expect(existsSync(killed.folder)).toBe(false);
  });

  it('stays where it cannot be judged', async () => {
    const killed = await start();
    process.kill(killed.helper, 'SIGKILL');
    await kill(killed.child);
    await ended(killed.helper);
    const owner = JSON.parse(readFileSync(path.join(killed.folder, '.owner.json'), 'utf8'));
    const folder = (name: string, said: string | null, mode = 0o700): string => {
      const made = path.join(scratch, `lockstep-tmp-${name}`);
      mkdirSync(made, { mode });
      if (said !== null) writeFileSync(path.join(made, '.owner.json'), said);
      return made;
    };
    const gone = JSON.stringify(owner);
    const kept = [
      folder('nobody', null),
      folder('broken', '{"pid"'),
      folder('container', JSON.stringify({ ...owner, place: `${owner.place}1` })),
      folder('shared', gone, 0o777),
    ];
    const target = path.join(scratch, 'target');
    mkdirSync(target, { mode: 0o700 });
    writeFileSync(path.join(target, '.owner.json'), gone);
    symlinkSync(target, path.join(scratch, 'lockstep-tmp-link'));
    const judged = folder('gone', gone);
    await start();
    expect(existsSync(judged)).toBe(false);
    expect(existsSync(killed.folder)).toBe(false);
    for (const one of [...kept, target]) expect(existsSync(one), one).toBe(true);
  });
});
