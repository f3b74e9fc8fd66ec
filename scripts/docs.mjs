// npm run docs: builds the documentation as a site, docs/site/dist. A dead link fails the build.
// `npm run docs -- --base /lockstep/` and other flags go to VitePress.
import path from 'node:path';
import { attached, report, root, say } from './lib.mjs';
import { setUpNode } from './setup/node.mjs';

const site = path.join(root, 'docs', 'site');

try {
  // About 100 MB that using and testing Lockstep does not need, so they have a package of their own.
  await setUpNode({ folder: site });
  const vitepress = path.join(site, 'node_modules', 'vitepress', 'bin', 'vitepress.js');
  process.env.INIT_CWD = root;
  const args = [vitepress, 'build', site, ...process.argv.slice(2)];
  process.exitCode = await attached(process.execPath, args);
  if (process.exitCode === 0) say(`built docs/site/dist; look at it with any web server`);
} catch (error) {
  report(error);
}
