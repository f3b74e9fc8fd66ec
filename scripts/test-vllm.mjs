// npm run test:vllm: set-up with vLLM, then the tests that start real engines: Python's, then Node's.
// `npm run test:vllm -- WORD...` runs the test files whose name holds one of the words.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { report, root, runSteps, SetupError, venv, venvPython } from './lib.mjs';
import { setup } from './setup/index.mjs';

const words = process.argv.slice(2);
const folder = path.join('test', 'vllm');
const files = readdirSync(path.join(root, folder))
  .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
  .map((name) => path.join(folder, name))
  .sort();
const python = files.filter((file) => /^test_.*\.py$/.test(path.basename(file)));
const node = files.filter((file) => file.endsWith('.test.ts'));
const env = {
  ...process.env,
  INIT_CWD: root,
  PATH: `${path.join(venv, 'bin')}${path.delimiter}${process.env.PATH}`,
  PYTHON_BIN: venvPython,
  OMP_WAIT_POLICY: 'PASSIVE',
};
const steps = [
  ['python tests', venvPython, ['-m', 'pytest', '-q', '-x', ...python], python],
  [
    'tests',
    process.execPath,
    [
      path.join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--config',
      path.join(folder, 'vitest.config.ts'),
      ...node,
    ],
    node,
  ],
];

try {
  if (python.length + node.length === 0) {
    throw new SetupError(
      'LS_TEST_FILTER',
      `expected a part of a file's name in ${folder}, got ${words.join(' ')}.`,
      `name one of its tests, such as parity, or none to run all.`,
    );
  }
  await setup({ vllm: true });
  process.chdir(root);
  process.env.INIT_CWD = root;
  await runSteps(
    steps.filter(([, , , chosen]) => chosen.length > 0),
    env,
  );
} catch (error) {
  report(error);
}
