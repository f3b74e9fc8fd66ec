// Unpacking what pip downloaded.
import path from 'node:path';
import { run, SetupError, venvPython } from '../lib.mjs';

const program = `
import shutil, sys, zipfile
archive, folder, *names = sys.argv[1:]
if names:
    zipfile.ZipFile(archive).extractall(folder, names)
elif archive.endswith(".whl"):
    shutil.unpack_archive(archive, folder, "zip")
else:
    shutil.unpack_archive(archive, folder, "gztar", filter="data")
`;

/** Unpacks a wheel or a .tar.gz into a folder; of a wheel only the files `names`, where there are any. */
export async function unpack(archive, folder, names = []) {
  const args = ['-c', program, archive, folder, ...names];
  const { code, output } = await run(venvPython, args, { quiet: true });
  if (code === 0) return;
  throw new SetupError(
    'LS_SETUP_UNPACK',
    `${path.basename(archive)} could not be unpacked: ${output.trim().split('\n').at(-1)}`,
    'free some disk space, then run the same command again.',
  );
}
