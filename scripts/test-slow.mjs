// npm run test:slow: set-up, then the tests that search: more random policies, more sequences in turns.
// Hours on two cores; LOCKSTEP_FUZZ and LOCKSTEP_INTERLEAVING set other counts.
import path from 'node:path';
import { report, root, runSteps, venvPython } from './lib.mjs';
import { setup } from './setup/index.mjs';

const env = {
  ...process.env,
  INIT_CWD: root,
  PYTHON_BIN: venvPython,
  OMP_WAIT_POLICY: 'PASSIVE',
  LOCKSTEP_FUZZ: process.env.LOCKSTEP_FUZZ ?? '20000',
  LOCKSTEP_INTERLEAVING: process.env.LOCKSTEP_INTERLEAVING ?? '1000',
};
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
const steps = [
  [
    'python tests',
    venvPython,
    ['-m', 'pytest', '-q', '-x', path.join('test', 'python', 'test_interleaving.py')],
  ],
  ['tests', process.execPath, [vitest, 'run', 'test/policy-fuzz', 'test/interleaving']],
];

try {
  await setup();
  process.chdir(root);
  process.env.INIT_CWD = root;
  await runSteps(steps, env);
} catch (error) {
  report(error);
}
