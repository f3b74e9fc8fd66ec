// Which identifiers of a script refer to globals.
import type { AnyNode, Function as FunctionNode, Pattern, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';

/** Whether the identifier at the end of `ancestors` refers to no declaration of the script. */
export type IsFree = (name: string, ancestors: readonly AnyNode[]) => boolean;

/** Collect the declarations of every scope of a program. */
export function freeNames(program: Program): IsFree {
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
  return (name, ancestors) => !ancestors.some((scope) => scopes.get(scope)?.has(name));
}

function isFunction(node: AnyNode): node is FunctionNode & AnyNode {
  return /Function/.test(node.type);
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
function bound(pattern: Pattern): string[] {
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
