// Prints random policies for tests in Python: `node --import tsx print-policies.ts COUNT SEED`, a line of
// JSON each, {"document": what of a contract a planner reads, "policySource": text of policy.js}.
import { randomPolicies } from './random-policies.ts';

const [count = 1, seed = 0] = process.argv.slice(2).map(Number);
for (let next = seed, printed = 0; printed < count; next++) {
  const { accepted } = await randomPolicies([next]);
  for (const { contract, policySource } of accepted) {
    process.stdout.write(`${JSON.stringify({ document: contract, policySource })}\n`);
    printed += 1;
  }
}
