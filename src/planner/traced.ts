// The frozen runtime and a policy, both with calls more: they say where an error was thrown, and what push
// answered.
//
// They make no plan. The host runs them after a failure, over the same tokens, to find the place; and
// `lockstep plan --trace` runs them to show a policy's state.
import { parse } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import { Insertions, type Instrumented } from '../contract/analysis/insertions.ts';

export interface Traced {
  /** Text of the runtime. */
  readonly runtime: string;
  /** Text of policy.js, and where its places were. */
  readonly policy: Instrumented;
}

/** Text of the runtime, and the text that replaces it here. Line numbers do not change. */
const changes: readonly (readonly [frozen: string, traced: string])[] = [
  ['Error.stackTraceLimit = 0;', 'Error.stackTraceLimit = 32;'],
  [
    'const report = { code, message, index: cells[2], token: cells[3] };',
    "const report = { code, message, index: cells[2], token: cells[3], stack: safely((it) => [it instanceof Error ? it.stack : ''], error)[0] };",
  ],
  [
    'if (asks && length >= min) asked = true;',
    'sequence.answer = asks; if (asks && length >= min) asked = true;',
  ],
];

/** The traced form of a runtime and a policy; undefined where they have none. */
export function traced(runtime: string, policySource: string): Traced | undefined {
  let text = runtime;
  for (const [frozen, replacement] of changes) {
    const parts = text.split(frozen);
    if (parts.length !== 2) return undefined;
    text = parts.join(replacement);
  }
  const policy = tracedPolicy(policySource);
  return policy && { runtime: text, policy };
}

/**
 * The engine notes the places of calls, not of reads: `a.b` becomes `at(a).b`. Left alone is `a?.b.c`,
 * which ends early where `a` is nothing.
 */
function tracedPolicy(source: string): Instrumented | undefined {
  const insertions = new Insertions();
  try {
    const program = parse(source, { ecmaVersion: 2022 });
    fullAncestor(program, (node, _state, ancestors) => {
      if (node.type !== 'MemberExpression' || node.object.type === 'Super') return;
      if (ancestors.some(({ type }) => type === 'ChainExpression')) return;
      insertions.around(node.object, 'lockstep$at(', ')');
    });
  } catch {
    return undefined;
  }
  insertions.at(0, 'const lockstep$at = (value) => value; ');
  return insertions.applied(source);
}
