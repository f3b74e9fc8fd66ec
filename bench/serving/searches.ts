// Malformed requests and SIGTERMs under load, as many as asked for, and what came of them.
//
// usage: npx tsx bench/serving/searches.ts [--requests 10000] [--sigterms 1000] [--seed 1]
//
// Runs test/malformed and test/sigterm; 0 leaves one out. Writes raw/malformed.json and raw/sigterms.json.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../src/paths.ts';
import { raw, record } from './record.ts';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '10000' },
    sigterms: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
  },
});

interface Search {
  what: string;
  count: number;
  passed: boolean;
  /** What the test told. */
  result: object | null;
  seconds: number;
}

async function search(what: string, folder: string, name: string, count: number): Promise<Search> {
  const since = performance.now();
  const vitest = path.join(packageRoot, 'node_modules', 'vitest', 'vitest.mjs');
  const child = spawn(process.execPath, [vitest, 'run', folder], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      LOCKSTEP_TELL: '1',
      [name]: String(count),
      [`${name}_SEED`]: String(values.seed),
    },
  });
  let printed = '';
  for (const [stream, out] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ] as const) {
    stream.on('data', (text) => {
      printed += text;
      out.write(text);
    });
  }
  const [code] = await once(child, 'close');
  const told = /^\{"search":.*\}$/m.exec(printed)?.[0];
  const seconds = Math.round((performance.now() - since) / 1000);
  const result = told === undefined ? null : (JSON.parse(told) as object);
  return { what, count, passed: code === 0, result, seconds };
}

const [requests, sigterms] = [Number(values.requests), Number(values.sigterms)];
if (requests > 0) {
  keep(
    'malformed',
    await search('malformed requests', 'test/malformed', 'LOCKSTEP_REQUESTS', requests),
  );
}
if (sigterms > 0) {
  keep(
    'sigterms',
    await search('SIGTERMs under load', 'test/sigterm', 'LOCKSTEP_SIGTERMS', sigterms),
  );
}

function keep(name: string, found: Search): void {
  record('searches', found, path.join(raw, `${name}.json`));
  if (!found.passed) process.exitCode = 1;
}
