// A text from standard input, as a file that can be read more than once.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

/** Keep what comes on standard input in a temporary file for as long as `use` takes. */
export async function fromStandardInput(use: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'lockstep-input-'));
  try {
    if (process.stdin.isTTY) process.stderr.write('reading a text from here; end it with Ctrl-D\n');
    const file = path.join(folder, 'text');
    await pipeline(process.stdin, createWriteStream(file, { mode: 0o600 }));
    await use(file);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
