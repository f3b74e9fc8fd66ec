// Calls into the policy runtime (`lockstep.keep`, `.activation`, `.written`) where a function holds
// variables of another function: what such variables hold is frozen if it was made while the module ran,
// and a write to one that an earlier call made is found. Where an error is caught, `lockstep.caught`
// ends the sequence.
import type { AnyNode, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import { bound, isFunction, isReference, type Resolve, resolver } from './free-identifiers.ts';
import { Insertions, type Instrumented } from './insertions.ts';

/** Shows a place of the bundle in the author's file: `speeches.ts:12`. */
export type Place = (line: number, column: number) => string;

/** The script with the calls added, and with `lockstep.keep` of everything that its outermost scope declares. */
export function instrument(source: string, program: Program, place: Place): Instrumented {
  const insertions = new Insertions();
  const resolve = resolver(program);
  const shared = sharedVariables(program, resolve);
  for (const [scope, names] of shared.held) keepHeld(scope, names, resolve, insertions);
  for (const [owner, writes] of shared.written) guardWrites(owner, writes, place, insertions);
  fullAncestor(program, (node) => {
    if (node.type === 'CatchClause') insertions.at(node.body.start + 1, 'lockstep.caught();');
  });
  const { text, original } = insertions.applied(source);
  return { text: `${text}lockstep.keep([${topNames(program).join(', ')}]);\n`, original };
}

interface Write {
  readonly node: AnyNode;
  readonly name: string;
}

/** Variables that an inner function uses: by their scope, and writes to them by the function that owns them. */
function sharedVariables(
  program: Program,
  resolve: Resolve,
): { held: Map<AnyNode, Set<string>>; written: Map<AnyNode, Write[]> } {
  const held = new Map<AnyNode, Set<string>>();
  const written = new Map<AnyNode, Write[]>();
  fullAncestor(program, (node, _state, ancestors) => {
    if (node.type !== 'Identifier' || !isReference(node, ancestors.at(-2))) return;
    const scope = resolve(node.name, ancestors);
    if (scope === undefined || scope === program) return;
    const at = ancestors.indexOf(scope);
    const inner = ancestors.slice(at + 1).some(isCallBoundary);
    if (!inner) return;
    held.set(scope, (held.get(scope) ?? new Set()).add(node.name));
    const write = writeOf(node, ancestors);
    if (write === undefined) return;
    const owner = ancestors.slice(0, at + 1).findLast(isFunction) ?? program;
    written.set(owner, [...(written.get(owner) ?? []), { node: write, name: node.name }]);
  });
  return { held, written };
}

function isCallBoundary(node: AnyNode): boolean {
  return isFunction(node) || node.type === 'PropertyDefinition' || node.type === 'StaticBlock';
}

/** The expression or loop by which an identifier is written, where it is. */
function writeOf(node: AnyNode, ancestors: readonly AnyNode[]): AnyNode | undefined {
  let child = node;
  for (const parent of ancestors.slice(0, -1).reverse()) {
    switch (parent.type) {
      case 'AssignmentExpression':
      case 'ForInStatement':
      case 'ForOfStatement':
        return parent.left === child ? parent : undefined;
      case 'UpdateExpression':
        return parent;
      case 'ArrayPattern':
      case 'ObjectPattern':
      case 'RestElement':
        break;
      case 'Property':
        if (parent.value !== child) return undefined;
        break;
      case 'AssignmentPattern':
        if (parent.left !== child) return undefined;
        break;
      default:
        return undefined;
    }
    child = parent;
  }
  return undefined;
}

/** `const a = x` becomes `const a = lockstep.keep(x)`; parameters and functions are kept as a body begins. */
function keepHeld(
  scope: AnyNode,
  names: ReadonlySet<string>,
  resolve: Resolve,
  insertions: Insertions,
): void {
  const wrap = (node: AnyNode | null | undefined): void => {
    if (node == null || node.type === 'Literal') return;
    insertions.around(node, 'lockstep.keep(', ')');
  };
  if (isFunction(scope)) {
    const parameters = scope.params.flatMap(bound).filter((name) => names.has(name));
    insertions.beginBody(
      scope,
      parameters.map((name) => `lockstep.keep(${name})`),
    );
  }
  // Declarations of this scope, and no other: those of inner functions have scopes of their own.
  fullAncestor(scope, (node, _state, inner) => {
    const declares = (name: string): boolean =>
      names.has(name) && resolve(name, [scope, ...inner.slice(1)]) === scope;
    switch (node.type) {
      case 'VariableDeclarator': {
        if (!bound(node.id).some(declares)) return;
        if (node.init) return wrap(node.init);
        const loop = inner.at(-3);
        if (loop?.type === 'ForOfStatement') wrap(loop.right);
        return;
      }
      case 'AssignmentExpression':
        if (node.left.type === 'Identifier' && declares(node.left.name)) wrap(node.right);
        return;
      case 'ClassDeclaration':
        if (node !== scope && node.id && declares(node.id.name)) {
          insertions.at(node.end, `;lockstep.keep(${node.id.name});`);
        }
        return;
      case 'FunctionDeclaration':
        if (node !== scope && node.id && declares(node.id.name)) {
          const block = isFunction(scope) ? scope.body : scope;
          insertions.at(block.start + 1, `lockstep.keep(${node.id.name});`);
        }
        return;
    }
  });
}

/** The owner notes the call in which it runs; each write by an inner function compares. */
function guardWrites(
  owner: AnyNode,
  writes: readonly Write[],
  place: Place,
  insertions: Insertions,
): void {
  const stamp = `lockstep$${owner.start}`;
  const statement = `const ${stamp} = lockstep.activation();`;
  if (!isFunction(owner)) insertions.at(owner.start, statement);
  else if (owner.body.type === 'BlockStatement') insertions.at(owner.body.start + 1, statement);
  else insertions.around(owner.body, `((${stamp}) => (`, '))(lockstep.activation())');
  for (const { node, name } of writes) {
    const { line, column } = node.loc?.start ?? { line: 1, column: 0 };
    const check = `lockstep.written(${stamp}, ${JSON.stringify(name)}, ${JSON.stringify(place(line, column))})`;
    if (node.type === 'UpdateExpression') insertions.around(node, `(${check}, `, ')');
    else if (node.type === 'AssignmentExpression')
      insertions.around(node.right, `(${check}, `, ')');
    else if (node.type === 'ForInStatement' || node.type === 'ForOfStatement') {
      insertions.around(node.right, `(${check}, `, ')');
    }
  }
}

function topNames(program: Program): string[] {
  const names = new Set<string>();
  for (const node of program.body) {
    if (node.type === 'VariableDeclaration') {
      for (const { id } of node.declarations) for (const name of bound(id)) names.add(name);
    } else if (node.type === 'FunctionDeclaration' || node.type === 'ClassDeclaration') {
      if (node.id) names.add(node.id.name);
    }
  }
  return [...names];
}
