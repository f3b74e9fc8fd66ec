// npm run setup: everything the project needs, from its own files. Safe to run again: a step that
// is done is skipped. `npm start` and `npm test` run it first.
// With --vllm it installs vLLM as well, with --tools TRL and lm-evaluation-harness.
import { report } from './lib.mjs';
import { setup } from './setup/index.mjs';

const args = process.argv.slice(2);
const unknown = args.filter((arg) => !['--force', '--vllm', '--tools'].includes(arg));
if (unknown.length > 0) {
  process.stderr.write(
    `error LS_SETUP_OPTION: expected no options but --force, --vllm and --tools, got ${unknown.join(' ')}.\n  fix: npm run setup [-- --force --vllm --tools]\n`,
  );
  process.exit(2);
}
await setup({
  force: args.includes('--force'),
  vllm: args.includes('--vllm'),
  tools: args.includes('--tools'),
}).catch(report);
