// npm run bench [-- SUITE …]: runs the suites (all by default, hours on two cores) and writes what they
// measured to bench/raw/; bench/RESULTS.md is written from there. Needs the quickstart's checkpoint.
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { attached, report, root, SetupError, say, venvPython, work } from './lib.mjs';
import { setup } from './setup/index.mjs';

const checkpoint = path.join(work, 'runs', 'quickstart');
const text = path.join(work, 'texts', 'milton', 'paradiselost.txt');
const raw = (name) => path.join(root, 'bench', 'raw', `${name}.json`);
const tsx = ['--import', 'tsx'];

const suites = {
  planner: [process.execPath, [...tsx, 'bench/planner.ts', '--json', raw('planner')]],
  prefill: [venvPython, ['bench/prefill.py']],
  step: [venvPython, ['bench/training/speed.py']],
  engines: [
    process.execPath,
    [...tsx, 'bench/engines.ts', checkpoint, text, '--json', raw('engines')],
  ],
  control: [venvPython, ['bench/training/control.py', '--positions', '0']],
  positions: [
    venvPython,
    ['bench/training/control.py', '--seeds', '0', '--reuse', '--name', 'positions'],
  ],
};

try {
  const named = process.argv.slice(2);
  const unknown = named.filter((name) => !Object.hasOwn(suites, name));
  if (unknown.length > 0) {
    throw new SetupError(
      'LS_BENCH_SUITE',
      `expected suites out of ${Object.keys(suites).join(', ')}, got ${unknown.join(', ')}.`,
      'npm run bench -- planner prefill',
    );
  }
  await setup();
  process.chdir(root);
  process.env.INIT_CWD = root;
  if (!existsSync(path.join(checkpoint, 'onnx'))) {
    throw new SetupError(
      'LS_BENCH_CHECKPOINT',
      'expected the exported checkpoint of the quickstart, got none.',
      'run npm start -- --exit --json first.',
    );
  }
  mkdirSync(path.join(root, 'bench', 'raw'), { recursive: true });
  for (const name of named.length > 0 ? named : Object.keys(suites)) {
    say(`── ${name}`);
    const [command, args] = suites[name];
    const code = await attached(command, args, {
      env: { ...process.env, PYTHON_BIN: venvPython, OMP_WAIT_POLICY: 'PASSIVE' },
    });
    if (code !== 0) process.exit(code);
  }
  process.exitCode = await attached(venvPython, ['bench/report.py']);
} catch (error) {
  report(error);
}
