// npm start: set-up, then the quickstart from the policy to a served model.
import path from 'node:path';
import { attached, report, root } from './lib.mjs';
import { setup } from './setup/index.mjs';

try {
  await setup();
  const cli = path.join(root, 'dist', 'cli', 'main.js');
  process.exitCode = await attached(process.execPath, [
    cli,
    'quickstart',
    ...process.argv.slice(2),
  ]);
} catch (error) {
  report(error);
}
