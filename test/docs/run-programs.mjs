// Runs TypeScript files one after another, in the folder of each: node --import tsx run-programs.mjs '[{file, made}]'.
// A config is loaded as `lockstep` loads it. Prints {file: problem} on standard error.
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = new URL('../../dist/', import.meta.url);
const { loadConfig } = await import(new URL('index.js', dist));
const { loadServe } = await import(new URL('config/serve.js', dist));
const problems = {};
for (const { file, made } of JSON.parse(process.argv[2])) {
  process.chdir(path.dirname(file));
  try {
    if (made === 'defineConfig') await loadConfig(file);
    else if (made === 'defineServe') await loadServe(file);
    else await import(pathToFileURL(file));
  } catch (error) {
    problems[file] = `${error.code ?? ''} ${error.message}`;
  }
}
process.stderr.write(`problems: ${JSON.stringify(problems)}\n`);
