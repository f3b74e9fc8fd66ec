// The frozen runtime with three expressions more: it says where an error was thrown, and what push answered.
//
// It makes no plan. The host runs it after a failure, over the same tokens, to find the place; and
// `lockstep plan --trace` runs it to show a policy's state.

/** What stands in the runtime, and what stands there instead. Lines stay where they are. */
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

/** The traced form of a runtime; undefined for a runtime that these changes do not fit. */
export function tracedRuntime(runtime: string): string | undefined {
  let text = runtime;
  for (const [frozen, traced] of changes) {
    const parts = text.split(frozen);
    if (parts.length !== 2) return undefined;
    text = parts.join(traced);
  }
  return text;
}
