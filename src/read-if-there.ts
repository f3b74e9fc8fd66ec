// A text file that need not be there.
import { readFile } from 'node:fs/promises';

/** Its text; null where there is none. What is there and cannot be read is an error, not an absent file. */
export async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
