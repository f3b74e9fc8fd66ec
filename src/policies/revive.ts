// Making a policy again inside the bundle, from its module and its parameters.
import { originOf, type Params, type Policy } from './policy.ts';

/**
 * Find the policy called `name` among a module's exports and make it with these parameters.
 *
 * @param exports the module's namespace: factories, or policies made by them
 */
export function revive(
  exports: Readonly<Record<string, unknown>>,
  name: string,
  params: Params,
  policies: readonly Policy[],
): Policy {
  for (const value of Object.values(exports)) {
    const origin = originOf(value);
    if (origin?.name === name) return origin.revive(params, policies);
  }
  throw new Error(`expected the module of the policy ${name} to export it, got no such export`);
}
