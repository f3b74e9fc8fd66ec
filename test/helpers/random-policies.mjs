// Prints random policies as planners take them: `node random-policies.mjs COUNT SEED`, a JSON line each,
// {"document": the parts of a contract that a planner reads, "policySource": text of policy.js}.
import { bundlePolicy } from '../../dist/contract/bundle.js';
import { randomState } from '../policies/random-state.js';

const [count, seed] = process.argv.slice(2).map(Number);
let state = seed >>> 0;
/** An integer below `most` (Numerical Recipes' generator). */
function below(most) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * most);
}
const vocabulary = 61;
for (let n = 0; n < count; n++) {
  const program = Array.from({ length: 1 + below(4) }, () => [below(4), 2 + below(6), 2 + below(7)]);
  const align = 1 + below(2);
  const min = align * (1 + below(3));
  const max = min + align * below(8);
  const { source } = await bundlePolicy(randomState({ program }));
  const document = {
    policy: { name: 'randomState' },
    tables: null,
    segment: { min, max, align },
    tokenizer: { size: vocabulary },
  };
  process.stdout.write(`${JSON.stringify({ document, policySource: source })}\n`);
}
