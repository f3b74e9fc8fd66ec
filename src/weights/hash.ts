// SHA-256 of large files, computed once: remembered by inode, size and time of change in the user's cache.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';

/** Files of fewer bytes are hashed each time: that takes a few ms. */
const cachedFrom = 16 * 2 ** 20;
/** Within so long after a change, a further one might leave the same time behind. Milliseconds. */
const settled = 2_000n;
const mostEntries = 256;

export interface HashOptions {
  /** Bytes [begin, end) instead of the whole file. */
  range?: readonly [number, number];
  /** Bytes from which a hash is remembered (default 16 MiB). */
  cachedFrom?: number;
}

/**
 * SHA-256 of a file or a part of it, in lowercase hexadecimal digits (counterpart of
 * python/lockstep/weights/hash.py, which reads and writes the same cache).
 */
export async function hashOnce(file: string, options: HashOptions = {}): Promise<string> {
  const before = await stat(file, { bigint: true });
  const [begin, end] = options.range ?? [0, Number(before.size)];
  if (end - begin < (options.cachedFrom ?? cachedFrom)) return hash(file, begin, end);
  const key = keyOf(before, begin, end);
  const known = (await readCache())[key];
  if (known !== undefined) return known;
  const started = BigInt(Date.now());
  const sha256 = await hash(file, begin, end);
  const after = await stat(file, { bigint: true });
  const old = started - after.mtimeNs / 1_000_000n > settled;
  if (old && keyOf(after, begin, end) === key) await remember(key, sha256);
  return sha256;
}

interface Times {
  dev: bigint;
  ino: bigint;
  size: bigint;
  mtimeNs: bigint;
}

/** No path: hard links, which attach makes, are one file. No ctime: making and removing them sets it. */
function keyOf(found: Times, begin: number, end: number): string {
  const { dev, ino, size, mtimeNs } = found;
  return [dev, ino, size, mtimeNs, begin, end].join(':');
}

async function hash(file: string, begin: number, end: number): Promise<string> {
  const digest = createHash('sha256');
  if (end > begin) {
    const part = { start: begin, end: end - 1, highWaterMark: 1 << 20 };
    for await (const chunk of createReadStream(file, part)) digest.update(chunk as Buffer);
  }
  return digest.digest('hex');
}

/** The cache's file: under `XDG_CACHE_HOME`, else `~/.cache`. */
export function cacheFile(): string {
  const base = process.env['XDG_CACHE_HOME'];
  const root = base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), '.cache');
  return path.join(root, 'lockstep', 'weights.json');
}

/** What is remembered; nothing where the file is absent, damaged or another user could have written it. */
async function readCache(): Promise<Record<string, string>> {
  const file = cacheFile();
  try {
    if (!(await isOurs(path.dirname(file))) || !(await isOurs(file))) return {};
    const held: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (held === null || typeof held !== 'object' || Array.isArray(held)) return {};
    const entries = Object.entries(held).filter(
      ([, value]) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value),
    );
    return Object.fromEntries(entries) as Record<string, string>;
  } catch {
    return {};
  }
}

async function isOurs(place: string): Promise<boolean> {
  const found = await lstat(place);
  const user = process.getuid?.();
  if (user === undefined) return true; // Windows: the profile is the user's own
  return !found.isSymbolicLink() && found.uid === user && (found.mode & 0o022) === 0;
}

/** Two writers at once may lose an entry, never the file. Without a place to write, nothing is kept. */
async function remember(key: string, sha256: string): Promise<void> {
  const file = cacheFile();
  const temporary = `${file}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    if (!(await isOurs(path.dirname(file)))) return;
    const kept = Object.entries(await readCache()).slice(1 - mostEntries);
    const text = `${JSON.stringify(Object.fromEntries([...kept, [key, sha256]]), null, 1)}\n`;
    await writeFile(temporary, text, { mode: 0o600, flag: 'wx' });
    await rename(temporary, file);
  } catch {
    await rm(temporary, { force: true }).catch(() => {});
  }
}
