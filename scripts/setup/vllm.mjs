// npm run setup -- --vllm: vLLM in .venv, with a GPU or without one.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fingerprint, root, run, SetupError, say, venv, venvPython } from '../lib.mjs';
import { pip } from './python.mjs';

const python = (name) => path.join(root, 'python', name);
const marker = path.join(venv, '.lockstep-vllm');

/** Whether the driver sees a GPU. */
function hasGpu() {
  const { error, status, stdout } = spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8' });
  return !error && status === 0 && /^GPU \d+/m.test(stdout);
}

function checkPlatform() {
  if (process.platform === 'linux' && process.arch === 'x64') return;
  throw new SetupError(
    'LS_SETUP_VLLM',
    `expected Linux on x86-64 for vLLM's wheels, got ${process.platform} on ${process.arch}.`,
    'serve with --engine onnx or --engine torch here, or run vLLM on a Linux machine.',
  );
}

/** vLLM as it starts: its version, and Lockstep among its plugins. */
const probe = `
import importlib.metadata as metadata
import vllm
plugins = metadata.entry_points(group="vllm.general_plugins")
assert any(plugin.name == "lockstep" for plugin in plugins), "the plugin lockstep is not registered"
print(vllm.__version__)
`;

export async function setUpVllm({ force }) {
  checkPlatform();
  const list = hasGpu() ? 'requirements-vllm-gpu.txt' : 'requirements-vllm-cpu.txt';
  // A change of .venv's own packages may have moved what vLLM needs.
  const wanted = fingerprint([list, 'requirements.txt', 'constraints.txt'].map(python));
  if (!force && existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return;
  const gpu = list.includes('gpu');
  say(
    `vLLM for ${gpu ? 'the GPU' : 'the CPU, for no GPU was found'} (a few minutes the first time)`,
  );
  // The CPU list is complete: with dependencies pip would look for packages that have no CPU build.
  const args = gpu ? [] : ['--no-deps'];
  await pip(['install', ...args, '-r', python(list)], 'vLLM');
  const { code, output } = await run(venvPython, ['-c', probe], { quiet: true });
  if (code !== 0) {
    throw new SetupError(
      'LS_SETUP_VLLM',
      `vLLM was installed but does not start: ${output.trim().split('\n').at(-1)}`,
      'run npm run setup -- --force --vllm to make the Python environment again.',
    );
  }
  writeFileSync(marker, wanted);
}
