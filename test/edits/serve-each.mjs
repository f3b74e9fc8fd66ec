// Runs `lockstep serve` on one folder after the other in this process: stdin is a JSON list of folders, stdout
// what it said and its exit code for each. One that serves gets SIGTERM.
import { text } from 'node:stream/consumers';
import { run } from '../../dist/cli/run.js';

const dirs = JSON.parse(await text(process.stdin));
let said = '';
let serves = false;
process.stderr.write = (part) => {
  said += String(part);
  if (!serves && said.includes('Ctrl-C stops it')) {
    serves = true;
    process.kill(process.pid, 'SIGTERM');
  }
  return true;
};
const outcomes = [];
for (const dir of dirs) {
  said = '';
  serves = false;
  const code = await run(['serve', dir, '--engine', 'onnx', '--port', '0']);
  outcomes.push({ said, serves, code });
}
process.stdout.write(JSON.stringify(outcomes));
