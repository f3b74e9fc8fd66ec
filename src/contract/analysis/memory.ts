// Refuses memory outside of a policy's state where it is written down.
//
// What cannot be seen here (aliases, functions made by functions) is frozen or found at run time:
// instrument.ts and policy-runtime.v1.js.
import type { AnyNode, Pattern, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import type { Finding } from './determinism.ts';
import { isFunction, memberName, type Resolve, resolver } from './free-identifiers.ts';
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

/** Something that a policy may not do, and where. */
interface Seen {
  node: AnyNode;
  what: string;
}

/** What a name or an expression in a module is. */
interface Names {
  /** Whether a variable of the module is meant. */
  isModules(name: string, ancestors: readonly AnyNode[]): boolean;
  /** The module's variable that an expression is, or is part of; through local names for it. */
  variableOf(node: AnyNode, ancestors: readonly AnyNode[]): string | undefined;
}

/** Writes to what outlives a call, in order of place. */
export function outsideMemory(program: Program): Finding[] {
  const resolve = resolver(program);
  const atRunTime = runTimeCode(program, resolve);
  const names = namesIn(program, resolve);
  const findings: Finding[] = [];
  fullAncestor(program, (node, _state, ancestors) => {
    const runs = ancestors.slice(0, -1).some(isFunction) && atRunTime(ancestors);
    const seen = [
      ...(node.type === 'Property' ? sharedStart(node, ancestors, names) : []),
      ...(runs ? changes(node, ancestors, names) : []),
    ];
    for (const { node: at, what } of seen) {
      const { line, column } = at.loc?.start ?? { line: 1, column: 0 };
      findings.push({ line, column, what, fix });
    }
  });
  return findings.sort((a, b) => a.line - b.line || a.column - b.column);
}

function namesIn(program: Program, resolve: Resolve): Names {
  const initial = initialValues(program);
  const declarations = topLevel(program);
  const variableOf = (
    node: AnyNode,
    ancestors: readonly AnyNode[],
    depth = 0,
  ): string | undefined => {
    if (node.type === 'MemberExpression') return variableOf(node.object, ancestors, depth);
    if (node.type === 'ChainExpression') return variableOf(node.expression, ancestors, depth);
    if (node.type !== 'Identifier' || depth > 8) return undefined;
    const scope = resolve(node.name, ancestors);
    // The runtime gives typed arrays their first bytes back before each token.
    if (scope === program) return isTypedArray(declarations.get(node.name)) ? undefined : node.name;
    const value = scope === undefined ? undefined : initial.get(scope)?.get(node.name);
    return value === undefined ? undefined : variableOf(value, ancestors, depth + 1);
  };
  return {
    isModules: (name, ancestors) => resolve(name, ancestors) === program,
    variableOf: (node, ancestors) => variableOf(node, ancestors),
  };
}

/** What a node of code that runs changes beyond its call. */
function changes(node: AnyNode, ancestors: readonly AnyNode[], names: Names): Seen[] {
  switch (node.type) {
    case 'AssignmentExpression':
      return [...writes(node.left, ancestors, names), ...collectionInState(node, ancestors)];
    case 'UpdateExpression':
      return writes(node.argument, ancestors, names);
    case 'UnaryExpression':
      return node.operator === 'delete' ? writes(node.argument, ancestors, names) : [];
    case 'ForInStatement':
    case 'ForOfStatement':
      return node.left.type === 'VariableDeclaration' ? [] : writes(node.left, ancestors, names);
    case 'CallExpression': {
      if (node.callee.type !== 'MemberExpression') return [];
      const method = memberName(node.callee);
      if (method === undefined || !mutators.includes(method)) return [];
      const name = names.variableOf(node.callee.object, ancestors);
      if (name === undefined) return [];
      return [{ node, what: `calls ${method} on ${name}, which outlives the call` }];
    }
    default:
      return [];
  }
}

/** `target = value` */
function writes(target: AnyNode, ancestors: readonly AnyNode[], names: Names): Seen[] {
  return targets(target as Pattern).flatMap((node): Seen[] => {
    if (node.type === 'Identifier') {
      // A local name for a module's value may itself be assigned again.
      if (!names.isModules(node.name, ancestors)) return [];
      return [{ node, what: `writes to ${node.name}, a variable of its module` }];
    }
    const name = names.variableOf(node, ancestors);
    if (name === undefined) return [];
    return [{ node, what: `writes to a property of ${name}, which outlives the call` }];
  });
}

/** `state.seen = new Set()`: the state holds JSON alone. */
function collectionInState(
  node: AnyNode & { type: 'AssignmentExpression' },
  ancestors: readonly AnyNode[],
): Seen[] {
  const { left, right } = node;
  if (left.type !== 'MemberExpression' || right.type !== 'NewExpression') return [];
  if (right.callee.type !== 'Identifier' || !collections.test(right.callee.name)) return [];
  const owner = ancestors.find(
    (each) =>
      each.type === 'Property' &&
      each.key.type === 'Identifier' &&
      ['push', 'cut'].includes(each.key.name),
  );
  const [state] = owner?.type === 'Property' && isFunction(owner.value) ? owner.value.params : [];
  let root: AnyNode = left;
  while (root.type === 'MemberExpression') root = root.object;
  if (state?.type !== 'Identifier' || root.type !== 'Identifier' || root.name !== state.name) {
    return [];
  }
  return [{ node, what: `keeps a ${right.callee.name} in the state, which holds JSON alone` }];
}

/** `start: () => initial` gives every sequence the same object. */
function sharedStart(
  node: AnyNode & { type: 'Property' },
  ancestors: readonly AnyNode[],
  names: Names,
): Seen[] {
  if (node.key.type !== 'Identifier' || node.key.name !== 'start') return [];
  if (!isFunction(node.value)) return [];
  const { body } = node.value;
  const value = (
    body.type === 'BlockStatement'
      ? body.body.find((statement) => statement.type === 'ReturnStatement')?.argument
      : body
  ) as AnyNode | null | undefined;
  if (value == null || (value.type !== 'Identifier' && value.type !== 'MemberExpression')) {
    return [];
  }
  const name = names.variableOf(value, [...ancestors, node.value]);
  if (name === undefined) return [];
  return [{ node: value, what: `returns ${name}, one object for all sequences, from start` }];
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
