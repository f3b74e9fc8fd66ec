// Which declaration an identifier of a script refers to.
import type { AnyNode, Function as FunctionNode, Pattern, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';

/**
 * The scope that declares the name used at the end of `ancestors`: a program, function, block or loop;
 * undefined where no declaration of the script does.
 */
export type Resolve = (name: string, ancestors: readonly AnyNode[]) => AnyNode | undefined;

/** Collect the declarations of every scope of a program. */
export function resolver(program: Program): Resolve {
  const scopes = new Map<AnyNode, Set<string>>();
  const declare = (scope: AnyNode, name: string): void => {
    const names = scopes.get(scope);
    if (names === undefined) scopes.set(scope, new Set([name]));
    else names.add(name);
  };
  fullAncestor(program, (node, _state, ancestors) => {
    const outer = ancestors.slice(0, -1);
    if (node.type === 'VariableDeclaration') {
      const scope = nearest(outer, node.kind === 'var' ? isFunctionScope : isBlockScope);
      for (const { id } of node.declarations) for (const name of bound(id)) declare(scope, name);
    } else if (isFunction(node)) {
      for (const parameter of node.params) for (const name of bound(parameter)) declare(node, name);
      declare(node, 'arguments');
      if (node.id) {
        declare(
          node.type === 'FunctionDeclaration' ? nearest(outer, isBlockScope) : node,
          node.id.name,
        );
      }
    } else if (node.type === 'ClassDeclaration' || node.type === 'ClassExpression') {
      if (node.id) declare(nearest(outer, isBlockScope), node.id.name);
    } else if (node.type === 'CatchClause' && node.param) {
      for (const name of bound(node.param)) declare(node, name);
    }
  });
  return (name, ancestors) => ancestors.findLast((scope) => scopes.get(scope)?.has(name));
}

export function isFunction(node: AnyNode): node is FunctionNode & AnyNode {
  return /Function/.test(node.type);
}

/** Whether an identifier is read or written as a variable (and is no name of a property or label). */
export function isReference(node: AnyNode, parent: AnyNode | undefined): boolean {
  switch (parent?.type) {
    case 'MemberExpression':
      return parent.object === node || parent.computed;
    case 'Property':
    case 'MethodDefinition':
    case 'PropertyDefinition':
      return parent.value === node || parent.computed;
    case 'LabeledStatement':
    case 'BreakStatement':
    case 'ContinueStatement':
      return false;
    default:
      return true;
  }
}

/** Name of a member: `a.b` and `a['b']`; undefined where it is computed. */
export function memberName(node: AnyNode & { type: 'MemberExpression' }): string | undefined {
  if (!node.computed) return node.property.type === 'Identifier' ? node.property.name : undefined;
  return node.property.type === 'Literal' ? String(node.property.value) : undefined;
}

function isFunctionScope(node: AnyNode): boolean {
  return isFunction(node) || node.type === 'Program' || node.type === 'StaticBlock';
}

function isBlockScope(node: AnyNode): boolean {
  return (
    isFunctionScope(node) ||
    /^(BlockStatement|SwitchStatement|For(In|Of)?Statement|CatchClause)$/.test(node.type)
  );
}

function nearest(ancestors: readonly AnyNode[], fits: (node: AnyNode) => boolean): AnyNode {
  return ancestors.findLast(fits) as AnyNode;
}

/** Names that a pattern binds. */
export function bound(pattern: Pattern): string[] {
  switch (pattern.type) {
    case 'Identifier':
      return [pattern.name];
    case 'ObjectPattern':
      return pattern.properties.flatMap((property) =>
        bound(property.type === 'RestElement' ? property.argument : property.value),
      );
    case 'ArrayPattern':
      return pattern.elements.flatMap((element) => (element === null ? [] : bound(element)));
    case 'RestElement':
      return bound(pattern.argument);
    case 'AssignmentPattern':
      return bound(pattern.left);
    default:
      return [];
  }
}
