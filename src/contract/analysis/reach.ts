// Which code of a bundle runs when tokens are pushed, and not only when the contract is made.
import type { AnyNode, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import { bound, isReference, type Resolve } from './free-identifiers.ts';

/** Whether the node at the end of `ancestors` belongs to code that runs when tokens are pushed. */
export type AtRunTime = (ancestors: readonly AnyNode[]) => boolean;

const runTimeMethods: readonly string[] = ['push', 'start', 'cut'];
const contractMethods: readonly string[] = ['prepare', 'check'];

/**
 * The functions called push, start and cut, and every declaration of the bundle that they name, directly
 * or by way of others. `prepare` and `check` are left out, and so is what only they use.
 */
export function runTimeCode(program: Program, resolve: Resolve): AtRunTime {
  const declarations = topLevel(program);
  const marked = new Set<AnyNode>();
  const waiting: AnyNode[] = [];

  fullAncestor(program, (node) => {
    if (node.type !== 'Property' && node.type !== 'MethodDefinition') return;
    if (node.key.type !== 'Identifier' || !runTimeMethods.includes(node.key.name)) return;
    if (node.value !== null && !marked.has(node.value)) {
      marked.add(node.value);
      waiting.push(node.value);
    }
  });
  for (let root = waiting.pop(); root !== undefined; root = waiting.pop()) {
    const inside = root;
    fullAncestor(inside, (node, _state, ancestors) => {
      if (node.type !== 'Identifier' || !isReference(node, ancestors.at(-2))) return;
      if (ancestors.some(isContractCode)) return;
      if (resolve(node.name, [program, ...ancestors]) !== program) return;
      const declaration = declarations.get(node.name);
      if (declaration === undefined || marked.has(declaration)) return;
      marked.add(declaration);
      waiting.push(declaration);
    });
  }
  return (ancestors) =>
    ancestors.some((node) => marked.has(node)) && !ancestors.some(isContractCode);
}

/** What every name of the outermost scope is declared as: a function, a class, an initial value. */
export function topLevel(program: Program): Map<string, AnyNode> {
  const declarations = new Map<string, AnyNode>();
  for (const node of program.body) {
    if (node.type === 'VariableDeclaration') {
      for (const declarator of node.declarations) {
        for (const name of bound(declarator.id)) declarations.set(name, declarator);
      }
    } else if (node.type === 'FunctionDeclaration' || node.type === 'ClassDeclaration') {
      if (node.id) declarations.set(node.id.name, node);
    }
  }
  return declarations;
}

function isContractCode(node: AnyNode): boolean {
  return (
    (node.type === 'Property' || node.type === 'MethodDefinition') &&
    node.key.type === 'Identifier' &&
    contractMethods.includes(node.key.name)
  );
}
