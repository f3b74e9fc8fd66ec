// npm test: set-up, then every check; the Python tests run beside vitest's. The runners' own closing lines
// come last.
// `npm test -- FILTER` hands FILTER to vitest alone.
import path from 'node:path';
import { report, root, runSteps, runTogether, venvPython } from './lib.mjs';
import { setup } from './setup/index.mjs';

const filter = process.argv.slice(2);
const local = (name) => path.join(root, 'node_modules', name);
const env = {
  ...process.env,
  INIT_CWD: root,
  PYTHON_BIN: venvPython,
  OMP_WAIT_POLICY: 'PASSIVE',
  // Hundreds of processes start: each takes the bytecode and the policy engine's machine code of the first.
  PYTHONDONTWRITEBYTECODE: '',
};

const checks = [
  ['types', process.execPath, [local('typescript/bin/tsc'), '--noEmit']],
  ['lint', process.execPath, [local('@biomejs/biome/bin/biome'), 'check', '.']],
  [
    'python lint',
    venvPython,
    [
      '-m',
      'ruff',
      'check',
      '--config',
      'python/pyproject.toml',
      'python',
      'test',
      'bench',
      'scripts',
    ],
  ],
  [
    'python types',
    venvPython,
    ['-m', 'mypy', '--config-file', 'python/pyproject.toml', 'python/lockstep'],
  ],
];
const vitest = ['tests', process.execPath, [local('vitest/vitest.mjs'), 'run', ...filter]];
const pytest = ['python tests', venvPython, ['-m', 'pytest', '-q', '-x', 'test/python']];

try {
  // The tests run TRL and lm-evaluation-harness, too.
  await setup({ tools: true, schemas: true });
  process.chdir(root);
  process.env.INIT_CWD = root;
  if (filter.length > 0) await runSteps([vitest], env);
  else {
    await runTogether(checks, env);
    if (process.exitCode === undefined) await runTogether([vitest, pytest], env);
  }
} catch (error) {
  report(error);
}
