// npm run plan | train | verify | serve | bench: the command of that name of the built CLI.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { attached, report, root } from './lib.mjs';
import { setup } from './setup/index.mjs';

const cli = path.join(root, 'dist', 'cli', 'main.js');
try {
  if (!existsSync(cli)) await setup();
  process.exitCode = await attached(process.execPath, [cli, ...process.argv.slice(2)]);
} catch (error) {
  report(error);
}
