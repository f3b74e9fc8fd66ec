// npm run test:slow: set-up, then the tests that search: more random policies, more sequences in turns.
// faulty streams, malformed requests, SIGTERMs under load. Hours on two cores; the variables below set other
// counts. `npm run test:slow -- FILTER` hands FILTER to vitest alone.
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
  LOCKSTEP_TELL: '1',
  LOCKSTEP_STREAMS: process.env.LOCKSTEP_STREAMS ?? '1000000',
  LOCKSTEP_REQUESTS: process.env.LOCKSTEP_REQUESTS ?? '10000',
  LOCKSTEP_SIGTERMS: process.env.LOCKSTEP_SIGTERMS ?? '1000',
};
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
const steps = [
  [
    'python tests',
    venvPython,
    ['-m', 'pytest', '-q', '-x', path.join('test', 'python', 'test_interleaving.py')],
  ],
  [
    'tests',
    process.execPath,
    [
      vitest,
      'run',
      'test/policy-fuzz',
      'test/interleaving',
      'test/streams',
      'test/malformed',
      'test/sigterm',
    ],
  ],
];
const filter = process.argv.slice(2);
const chosen =
  filter.length > 0 ? [['tests', process.execPath, [vitest, 'run', ...filter]]] : steps;

try {
  await setup();
  process.chdir(root);
  process.env.INIT_CWD = root;
  await runSteps(chosen, env);
} catch (error) {
  report(error);
}
