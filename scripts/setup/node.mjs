// Node packages from the lockfile, and the build.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fingerprint, root, run, SetupError, say } from '../lib.mjs';

/** The packages of the lock file in `folder`: once, and again when the lock file or .npmrc changes. */
export async function setUpNode({ force = false, folder = root }) {
  const marker = path.join(folder, 'node_modules', '.lockstep-lock');
  const wanted = fingerprint(
    ['package-lock.json', '.npmrc'].map((name) => path.join(folder, name)),
  );
  if (!force && existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return;
  say('node packages: npm ci');
  const { code, output } = await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    quiet: true,
    cwd: folder,
  });
  if (code !== 0) {
    const network = /ENOTFOUND|ETIMEDOUT|ECONNREFUSED|ECONNRESET|EAI_AGAIN|network/i.test(output);
    throw new SetupError(
      network ? 'LS_SETUP_NETWORK' : 'LS_SETUP_NPM',
      `npm ci did not succeed: ${output.trim().split('\n').slice(-4).join(' | ')}`,
      network
        ? 'check the network and the registry that npm is set to, then run npm run setup again.'
        : 'run npm ci by hand to see its full output.',
    );
  }
  writeFileSync(marker, wanted);
}

export async function build() {
  const { code, output } = await run('npm', ['run', '--silent', 'build'], { quiet: true });
  if (code !== 0) {
    throw new SetupError(
      'LS_SETUP_BUILD',
      `the TypeScript build failed:\n${output.trim()}`,
      'fix the errors above, then run npm run build.',
    );
  }
}
