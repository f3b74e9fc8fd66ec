// The order of set-up: checks, Node packages, build, Python packages; vLLM, tools and schemas if asked for; real inputs.
import { mkdirSync } from 'node:fs';
import { say, work } from '../lib.mjs';
import { checkDisk, checkNode, findSystemPython } from './checks.mjs';
import { setUpInputs } from './inputs.mjs';
import { build, setUpNode } from './node.mjs';
import { setUpPython } from './python.mjs';
import { setUpSchemas } from './schemas.mjs';
import { setUpTools } from './tools.mjs';
import { setUpVllm } from './vllm.mjs';

export async function setup({ force = false, vllm = false, tools = false, schemas = false } = {}) {
  const started = Date.now();
  checkNode();
  mkdirSync(work, { recursive: true });
  await checkDisk();
  await setUpNode({ force });
  await build();
  await setUpPython({ force, systemPython: findSystemPython });
  if (vllm) await setUpVllm({ force });
  if (tools) await setUpTools({ force });
  if (schemas) await setUpSchemas({ force });
  await setUpInputs({ force });
  say(`set-up is complete (${((Date.now() - started) / 1000).toFixed(0)} s)`);
}
