// npm test: set-up, then every check. The runners' own closing lines come last.
// `npm test -- FILTER` hands FILTER to vitest alone.
import path from 'node:path';
import { report, root, runSteps, venvPython } from './lib.mjs';
import { setup } from './setup/index.mjs';

const filter = process.argv.slice(2);
const local = (name) => path.join(root, 'node_modules', name);
const env = { ...process.env, INIT_CWD: root, PYTHON_BIN: venvPython, OMP_WAIT_POLICY: 'PASSIVE' };

const steps = [
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
  ['python tests', venvPython, ['-m', 'pytest', '-q', '-x', 'test/python']],
  ['tests', process.execPath, [local('vitest/vitest.mjs'), 'run']],
];

try {
  // The tests run TRL and lm-evaluation-harness, too.
  await setup({ tools: true });
  process.chdir(root);
  process.env.INIT_CWD = root;
  const chosen =
    filter.length > 0
      ? [['tests', process.execPath, [local('vitest/vitest.mjs'), 'run', ...filter]]]
      : steps;
  await runSteps(chosen, env);
} catch (error) {
  report(error);
}
