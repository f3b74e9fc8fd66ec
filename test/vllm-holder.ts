// A program of its own that supervises a fake vLLM until it is killed: prints the three process ids.
import path from 'node:path';
import { findPython } from '../src/bridge/index.ts';
import { readContract } from '../src/checkpoint/index.ts';
import { superviseVllm } from '../src/engines/vllm/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';

const [dir, digest] = process.argv.slice(2) as [string, string];
const fake = path.join(import.meta.dirname, 'python', 'faults', 'fake_vllm.py');
const pids: number[] = [];
const engine = await superviseVllm(
  {
    dir,
    source: await readContract(dir),
    tokenizer: await loadTokenizer(dir),
    model: 'toy',
  },
  {
    python: await findPython(),
    command: (socket) => [fake, '--digest', digest, '--uds', socket, '--engine-process'],
    onLine: (line) => {
      const pid = /^(?:pid|engine) (\d+)$/.exec(line)?.[1];
      if (pid !== undefined) pids.push(Number(pid));
    },
    graceMs: 1_000,
  },
);
console.log(JSON.stringify([...engine.pids(), ...pids]));
setInterval(() => {}, 1_000);
