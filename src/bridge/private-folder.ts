// A folder for temporary files that only this user can enter, and the end of those that killed processes left.
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const prefix = 'lockstep-tmp-';
/** In the folder and not in its name: the path of a Unix socket in it may have 107 bytes at most. */
const ownerFile = '.owner.json';

/** A process, also after its id was given to another one. */
interface Owner {
  /** The start of the machine and the namespace in which `pid` means this process. */
  place: string;
  pid: number;
  /** When it started, in ticks of the kernel. */
  start: string;
}

let folder: string | undefined;

/**
 * A folder that only this user can enter, for temporary files of this process's children: a name that
 * somebody else can guess in a shared one may be a link to another file. Removed when the process ends. What
 * a process left that was killed is removed by the next one that comes here (Linux).
 */
export function privateFolder(): string {
  if (folder === undefined) {
    const made = mkdtempSync(path.join(tmpdir(), prefix));
    chmodSync(made, 0o700);
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    folder = made;
    const owner = thisProcess();
    if (owner !== null) {
      writeFileSync(path.join(made, ownerFile), JSON.stringify(owner));
      removeAbandoned(tmpdir(), owner.place);
    }
  }
  return folder;
}

/** Null where nothing says it: there is no /proc, or it is another namespace's. */
function thisProcess(): Owner | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const found = processAt('self');
    if (found === null || found.pid !== process.pid) return null;
    const place = `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
    return { place, pid: found.pid, start: found.start };
  } catch {
    return null;
  }
}

/** Null where there is none, or only what its parent has not asked for yet. */
function processAt(pid: number | 'self'): { pid: number; start: string } | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // `pid (name) state ...`: the name may hold spaces and brackets; the start is field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return { pid: Number.parseInt(stat, 10), start: fields[19] as string };
}

/**
 * Remove the folders whose process is gone and that nobody else uses. Those that cannot be judged stay:
 * another user's, those of another container or of an earlier start of the machine, those without an owner.
 */
function removeAbandoned(parent: string, place: string): void {
  try {
    const names = readdirSync(parent).filter((name) => name.startsWith(prefix));
    const left = names.filter((name) => isAbandoned(path.join(parent, name), place));
    if (left.length === 0) return;
    const used = inUse();
    for (const name of left) {
      if (used.some((text) => text.includes(name))) continue;
      rmSync(path.join(parent, name), { recursive: true, force: true });
    }
  } catch {
    // Nobody waits for it; the next process tries again.
  }
}

function isAbandoned(dir: string, place: string): boolean {
  try {
    const found = lstatSync(dir);
    // Not a link, nor a folder in which somebody else wrote the owner.
    if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o077) !== 0) {
      return false;
    }
    const owner = JSON.parse(readFileSync(path.join(dir, ownerFile), 'utf8')) as Owner;
    if (owner.place !== place || !Number.isInteger(owner.pid)) return false;
    return processAt(owner.pid)?.start !== owner.start;
  } catch {
    return false;
  }
}

/** The environments of this user's processes and the sockets that have a path: where a folder in use is named. */
function inUse(): string[] {
  const files = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return [...files.map((pid) => `/proc/${pid}/environ`), '/proc/net/unix'].flatMap((file) => {
    try {
      return [readFileSync(file, 'utf8')];
    } catch {
      // Another user's process, or one that has ended meanwhile.
      return [];
    }
  });
}
