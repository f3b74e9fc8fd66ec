// Copies what tsc does not: the page's static files, beside the server that serves them.
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const to = path.join(root, 'dist', 'server', 'page');
rmSync(to, { recursive: true, force: true });
cpSync(path.join(root, 'src', 'server', 'page'), to, { recursive: true });
