// Which parts of a grammar stand for no text that ends: those that need themselves.
import type { Node } from './grammar.ts';

/** The nodes of a grammar that no finite text fits. */
export function endlessNodes(grammar: Node): ReadonlySet<Node> {
  /** By node: how many of its parts still have to be known to end; the parts' users, once for each use. */
  const missing = new Map<Node, number>([[grammar, needs(grammar)]]);
  const users = new Map<Node, Node[]>();
  const open = [grammar];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    for (const part of partsOf(node)) {
      const known = users.get(part);
      if (known === undefined) users.set(part, [node]);
      else known.push(node);
      if (missing.has(part)) continue;
      missing.set(part, needs(part));
      open.push(part);
    }
  }
  const endless = new Set(missing.keys());
  const ends = [...missing].filter(([, count]) => count === 0).map(([node]) => node);
  for (let node = ends.pop(); node !== undefined; node = ends.pop()) {
    endless.delete(node);
    for (const user of users.get(node) ?? []) {
      const left = (missing.get(user) as number) - 1;
      missing.set(user, left);
      if (left === 0) ends.push(user);
    }
  }
  return endless;
}

function partsOf(node: Node): readonly Node[] {
  if (node.kind === 'sequence' || node.kind === 'choice') return node.parts;
  if (node.kind === 'repeat') return [node.node];
  return node.kind === 'reference' ? [node.target()] : [];
}

/** Of a choice one part is enough; what is repeated may be left out where it comes no times. */
function needs(node: Node): number {
  if (node.kind === 'sequence') return node.parts.length;
  if (node.kind === 'repeat') return node.min > 0 ? 1 : 0;
  return node.kind === 'choice' || node.kind === 'reference' ? 1 : 0;
}
