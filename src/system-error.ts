// What the operating system said about a file or an address, in words that a person reads.

const words: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'no permission',
  EPERM: 'no permission',
  EISDIR: 'a folder',
  ENOTDIR: 'a path through a file that is no folder',
  EROFS: 'a read-only disk',
  ENOSPC: 'a full disk',
  EDQUOT: 'a full disk quota',
  EFBIG: 'a file larger than this user may write',
  EIO: 'a disk that fails',
  ELOOP: 'links that lead in a circle',
  EMFILE: 'too many open files',
};

/** The cause of a failed system call; the code or message itself where there is no better word. */
export function systemProblem(error: unknown): string {
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  return (code === undefined ? undefined : words[code]) ?? code ?? message ?? String(error);
}
