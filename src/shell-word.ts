// Words of a command that a user copies into a shell.

/** The word as a POSIX shell reads it back: quoted where it holds anything but plain characters. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
