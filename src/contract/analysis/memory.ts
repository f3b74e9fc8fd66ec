// Refuses memory outside of a policy's state where it is written down.
//
// What cannot be seen here (aliases, functions made by functions) is frozen or found at run time:
// instrument.ts and policy-runtime.v1.js.
import type { AnyNode, Pattern, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import type { Finding } from './determinism.ts';
import { isFunction, memberName, resolver } from './free-identifiers.ts';
import { runTimeCode, topLevel } from './reach.ts';

const fix =
  'Keep it in the state: what outlives a call is shared by all sequences, and a snapshot does not hold it.';

/** Methods that change what they are called on. */
const mutators: readonly string[] = [
  'add',
  'clear',
  'copyWithin',
  'delete',
  'fill',
  'pop',
  'push',
  'reverse',
  'set',
  'shift',
  'sort',
  'splice',
  'unshift',
];
/** Makers of what JSON does not hold. */
const collections = /^(Map|Set|WeakMap|WeakSet|ArrayBuffer|DataView|\w+Array)$/;

/** Writes to what outlives a call, in order of place. */
export function outsideMemory(program: Program): Finding[] {
  const resolve = resolver(program);
  const atRunTime = runTimeCode(program, resolve);
  const initial = initialValues(program);
  const declarations = topLevel(program);
  const findings: Finding[] = [];
  const report = (node: AnyNode, what: string): void => {
    const { line, column } = node.loc?.start ?? { line: 1, column: 0 };
    findings.push({ line, column, what, fix });
  };

  /** The module's variable that an expression is, or is part of; through local names for it. */
  const moduleVariable = (
    node: AnyNode,
    ancestors: readonly AnyNode[],
    depth = 0,
  ): string | undefined => {
    if (node.type === 'MemberExpression') return moduleVariable(node.object, ancestors, depth);
    if (node.type === 'ChainExpression') return moduleVariable(node.expression, ancestors, depth);
    if (node.type !== 'Identifier' || depth > 8) return undefined;
    const scope = resolve(node.name, ancestors);
    // The runtime gives typed arrays their first bytes back before each token.
    if (scope === program) return isTypedArray(declarations.get(node.name)) ? undefined : node.name;
    const value = scope === undefined ? undefined : initial.get(scope)?.get(node.name);
    return value === undefined ? undefined : moduleVariable(value, ancestors, depth + 1);
  };
  const written = (target: AnyNode, ancestors: readonly AnyNode[]): void => {
    for (const part of targets(target as Pattern)) {
      if (part.type === 'Identifier') {
        // A local name for a module's value may itself be assigned again.
        if (resolve(part.name, ancestors) !== program) continue;
        report(part, `writes to ${part.name}, a variable of its module`);
        continue;
      }
      const name = moduleVariable(part, ancestors);
      if (name !== undefined)
        report(part, `writes to a property of ${name}, which outlives the call`);
    }
  };

  fullAncestor(program, (node, _state, ancestors) => {
    if (!ancestors.slice(0, -1).some(isFunction) || !atRunTime(ancestors)) {
      if (node.type === 'Property') checkStart(node, ancestors);
      return;
    }
    switch (node.type) {
      case 'AssignmentExpression':
        written(node.left, ancestors);
        checkCollection(node, ancestors);
        return;
      case 'UpdateExpression':
        written(node.argument, ancestors);
        return;
      case 'UnaryExpression':
        if (node.operator === 'delete') written(node.argument, ancestors);
        return;
      case 'ForInStatement':
      case 'ForOfStatement':
        if (node.left.type !== 'VariableDeclaration') written(node.left, ancestors);
        return;
      case 'CallExpression': {
        if (node.callee.type !== 'MemberExpression') return;
        const method = memberName(node.callee);
        if (method === undefined || !mutators.includes(method)) return;
        const name = moduleVariable(node.callee.object, ancestors);
        if (name !== undefined) report(node, `calls ${method} on ${name}, which outlives the call`);
        return;
      }
      case 'Property':
        checkStart(node, ancestors);
        return;
    }
  });
  return findings.sort((a, b) => a.line - b.line || a.column - b.column);

  /** `start: () => initial` gives every sequence the same object. */
  function checkStart(node: AnyNode & { type: 'Property' }, ancestors: readonly AnyNode[]): void {
    if (node.key.type !== 'Identifier' || node.key.name !== 'start') return;
    if (!isFunction(node.value)) return;
    const { body } = node.value;
    const value = (
      body.type === 'BlockStatement'
        ? body.body.find((statement) => statement.type === 'ReturnStatement')?.argument
        : body
    ) as AnyNode | null | undefined;
    if (value == null || (value.type !== 'Identifier' && value.type !== 'MemberExpression')) return;
    const name = moduleVariable(value, [...ancestors, node.value]);
    if (name !== undefined)
      report(value, `returns ${name}, one object for all sequences, from start`);
  }

  /** `state.seen = new Set()`: the state holds JSON alone. */
  function checkCollection(
    node: AnyNode & { type: 'AssignmentExpression' },
    ancestors: readonly AnyNode[],
  ): void {
    const { left, right } = node;
    if (left.type !== 'MemberExpression' || right.type !== 'NewExpression') return;
    if (right.callee.type !== 'Identifier' || !collections.test(right.callee.name)) return;
    const owner = ancestors.find(
      (each) =>
        each.type === 'Property' &&
        each.key.type === 'Identifier' &&
        ['push', 'cut'].includes(each.key.name),
    );
    const [state] = owner?.type === 'Property' && isFunction(owner.value) ? owner.value.params : [];
    let root: AnyNode = left;
    while (root.type === 'MemberExpression') root = root.object;
    if (state?.type !== 'Identifier' || root.type !== 'Identifier' || root.name !== state.name)
      return;
    report(node, `keeps a ${right.callee.name} in the state, which holds JSON alone`);
  }
}

function isTypedArray(declaration: AnyNode | undefined): boolean {
  if (declaration?.type !== 'VariableDeclarator' || declaration.init?.type !== 'NewExpression') {
    return false;
  }
  const { callee } = declaration.init;
  return callee.type === 'Identifier' && /^(DataView|\w+Array)$/.test(callee.name);
}

/** Identifiers and members that an assignment's left side writes to. */
function targets(pattern: Pattern): AnyNode[] {
  switch (pattern.type) {
    case 'ObjectPattern':
      return pattern.properties.flatMap((property) =>
        targets(property.type === 'RestElement' ? property.argument : property.value),
      );
    case 'ArrayPattern':
      return pattern.elements.flatMap((element) => (element === null ? [] : targets(element)));
    case 'RestElement':
      return targets(pattern.argument);
    case 'AssignmentPattern':
      return targets(pattern.left);
    default:
      return [pattern];
  }
}

/** Initial values of the constants of every scope, by scope and name: `const a = b.c`. */
function initialValues(program: Program): Map<AnyNode, Map<string, AnyNode>> {
  const values = new Map<AnyNode, Map<string, AnyNode>>();
  const resolve = resolver(program);
  fullAncestor(program, (node, _state, ancestors) => {
    if (node.type !== 'VariableDeclarator' || node.id.type !== 'Identifier' || !node.init) return;
    if (node.init.type !== 'Identifier' && node.init.type !== 'MemberExpression') return;
    const scope = resolve(node.id.name, ancestors);
    if (scope === undefined) return;
    const names = values.get(scope) ?? new Map<string, AnyNode>();
    values.set(scope, names.set(node.id.name, node.init));
  });
  return values;
}
