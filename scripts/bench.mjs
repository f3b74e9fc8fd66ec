// npm run bench [-- SUITE …]: runs the suites and writes what they measured to raw/ beside them; the
// RESULTS.md files are written from there. Without names all of `suites` (hours on two cores); those of
// `named` by name alone: they take longer still, or want vLLM (npm run setup -- --vllm) or a GPU
// (llama, gpu). Needs the quickstart's checkpoint.
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
  turns: [process.execPath, [...tsx, 'bench/turns.ts', checkpoint, text, '--json', raw('turns')]],
  generate: [venvPython, ['bench/transformers_generate.py']],
  control: [venvPython, ['bench/training/control.py', '--positions', '0']],
  positions: [
    venvPython,
    ['bench/training/control.py', '--seeds', '0', '--reuse', '--name', 'positions'],
  ],
};

const beside = path.join(root, 'bench', 'serving', 'raw', 'beside.json');
const vllm = (name) => [venvPython, [`bench/vllm/${name}.py`]];
const named = {
  beside: [
    process.execPath,
    [...tsx, 'bench/serving/beside.ts', checkpoint, text, '--json', beside],
  ],
  peers: [process.execPath, [...tsx, 'bench/peers/run.ts']],
  'vllm-matrix': vllm('matrix'),
  'vllm-speed': vllm('speed'),
  'vllm-capacity': vllm('capacity'),
  'vllm-relay': [
    process.execPath,
    [
      ...[...tsx, 'bench/vllm/relay.ts', checkpoint],
      ...['--json', path.join(root, 'bench', 'vllm', 'raw', 'relay.json')],
      ...['--', '--enforce-eager', '--max-num-seqs', '64'],
    ],
  ],
  experiments: [venvPython, ['bench/training/experiments.py']],
  heads: [venvPython, ['bench/training/heads.py']],
  data: [venvPython, ['bench/training/data.py']],
  kills: [venvPython, ['bench/training/kills.py']],
  llama: [venvPython, ['bench/llama/run.py']],
  gpu: ['bash', ['bench/gpu/run.sh', '--out', path.join(work, 'gpu', 'out')]],
};
const all = { ...suites, ...named };
const reports = [
  ...['bench/report.py', 'bench/vllm/report.py', 'bench/training/results.py'].map((file) => [
    venvPython,
    [file],
  ]),
  [process.execPath, [...tsx, 'bench/serving/report.ts']],
];

try {
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !Object.hasOwn(all, name));
  if (unknown.length > 0) {
    throw new SetupError(
      'LS_BENCH_SUITE',
      `expected suites out of ${Object.keys(all).join(', ')}, got ${unknown.join(', ')}.`,
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
  for (const name of wanted.length > 0 ? wanted : Object.keys(suites)) {
    say(`── ${name}`);
    const [command, args] = all[name];
    const code = await attached(command, args, {
      env: { ...process.env, PYTHON_BIN: venvPython, OMP_WAIT_POLICY: 'PASSIVE' },
    });
    if (code !== 0) process.exit(code);
  }
  for (const [command, args] of reports) {
    const code = await attached(command, args);
    if (code !== 0) process.exit(code);
  }
} catch (error) {
  report(error);
}
