// Refuses what engines compute differently, in the very script that will run.
import { type AnyNode, type Node, parse } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import {
  allowedGlobals,
  exactMath,
  localeMethods,
  outsideNames,
  unicodeMethods,
} from '../planner/globals.ts';
import { freeNames } from './scope.ts';

/** One thing a policy may not do, at an offset of the script. */
export interface Finding {
  /** From 1. */
  line: number;
  /** From 0. */
  column: number;
  /** `uses Date`. */
  what: string;
  /** What to use instead. */
  mend: string;
}

const stdlib = (name: string): string =>
  `Use the package @stdlib/math-base-special-${name}, whose results are the same in every engine.`;
const mends: Readonly<Record<string, string>> = {
  Date: 'A policy depends on tokens alone; count tokens in its state.',
  performance: 'A policy depends on tokens alone; count tokens in its state.',
  Intl: 'Decide about text in prepare, with regular expressions or lists of your own.',
  eval: 'Write the code out.',
  Function: 'Write the code out.',
  WeakRef: 'Use Map, or WeakMap; when memory is collected differs between engines.',
  FinalizationRegistry: 'Use Map, or WeakMap; when memory is collected differs between engines.',
  globalThis: 'Import what you need; keep state in the state.',
  process: 'Pass settings as params of the policy.',
  console: 'Return a decision; to look at one, run `lockstep plan`.',
  Promise: 'push must answer at once; do slow work in prepare.',
};
const asyncMend = 'push must answer at once; do slow work in prepare.';
const prepareMend = 'Do it in prepare, and store the answer in tables (for example a list of ids).';

/**
 * What in a script is not the same in every engine, in order of place.
 *
 * @param source a classic script (policy.js)
 */
export function nondeterminism(source: string): Finding[] {
  const program = parse(source, { ecmaVersion: 2022, locations: true });
  const isFree = freeNames(program);
  const findings: Finding[] = [];
  const report = (node: Node, what: string, mend: string): void => {
    const { line, column } = node.loc?.start ?? { line: 1, column: 0 };
    findings.push({ line, column, what, mend });
  };

  fullAncestor(program, (node, _state, ancestors) => {
    const parent = ancestors.at(-2);
    switch (node.type) {
      case 'Identifier':
        if (!isReference(node, parent) || !isFree(node.name, ancestors)) return;
        if (node.name === 'Math') checkMath(node, parent, report);
        else if (node.name === 'RegExp' && atRunTime(ancestors)) {
          report(node, 'uses a regular expression outside prepare', prepareMend);
        } else if (!allowedGlobals.includes(node.name) && !isTypeof(parent)) {
          report(node, `uses ${node.name}`, mends[node.name] ?? unknownMend(node.name));
        }
        return;
      case 'MemberExpression': {
        const name = memberName(node);
        if (name !== undefined && localeMethods.includes(name)) {
          report(node, `uses ${name}`, 'Compare strings with < and >, which go by code units.');
        } else if (name !== undefined && unicodeMethods.includes(name) && atRunTime(ancestors)) {
          report(node, `uses ${name} outside prepare`, prepareMend);
        }
        return;
      }
      case 'Literal':
        if ('regex' in node && atRunTime(ancestors)) {
          report(node, 'uses a regular expression outside prepare', prepareMend);
        }
        return;
      case 'BinaryExpression':
      case 'AssignmentExpression':
        if (node.operator.startsWith('**')) {
          report(node, `uses ${node.operator}`, `Multiply, shift, or: ${stdlib('pow')}`);
        }
        return;
      case 'ImportExpression':
        report(node, 'uses import()', 'Import at the top of the file.');
        return;
      case 'AwaitExpression':
        report(node, 'uses await', asyncMend);
        return;
      case 'ForOfStatement':
        if (node.await) report(node, 'uses for await', asyncMend);
        return;
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
        if (node.async) report(node, 'uses an async function', asyncMend);
        return;
    }
  });
  return findings.sort((a, b) => a.line - b.line || a.column - b.column);
}

type Report = (node: Node, what: string, mend: string) => void;

/** Math may only be read member by member, so that the members can be seen. */
function checkMath(node: AnyNode, parent: AnyNode | undefined, report: Report): void {
  if (parent?.type === 'MemberExpression' && parent.object === node) {
    const name = memberName(parent);
    if (name !== undefined && exactMath.includes(name)) return;
    if (name === 'random') {
      report(parent, 'uses Math.random', 'Compute a hash of the tokens with integers (Math.imul).');
    } else if (name !== undefined) {
      report(parent, `uses Math.${name}`, stdlib(name === 'log' ? 'ln' : name));
    } else report(parent, 'uses Math[...]', 'Name the member of Math, as in Math.floor.');
    return;
  }
  if (parent?.type === 'VariableDeclarator' && parent.id.type === 'ObjectPattern') {
    for (const property of parent.id.properties) {
      const name =
        property.type === 'Property' && property.key.type === 'Identifier' && !property.computed
          ? property.key.name
          : '...';
      if (!exactMath.includes(name)) report(property, `uses Math.${name}`, stdlib(name));
    }
    return;
  }
  if (!isTypeof(parent)) report(node, 'uses Math as a value', 'Name the member, as in Math.floor.');
}

/** Whether the innermost function called push, start or cut holds the node. */
function atRunTime(ancestors: readonly AnyNode[]): boolean {
  return ancestors.some(
    (node) =>
      node.type === 'Property' &&
      node.key.type === 'Identifier' &&
      ['push', 'start', 'cut'].includes(node.key.name) &&
      /Function/.test(node.value.type),
  );
}

function memberName(node: AnyNode & { type: 'MemberExpression' }): string | undefined {
  if (!node.computed) return node.property.type === 'Identifier' ? node.property.name : undefined;
  return node.property.type === 'Literal' ? String(node.property.value) : undefined;
}

/** Whether an identifier is read or written as a variable (and is no name of a property or label). */
function isReference(node: AnyNode, parent: AnyNode | undefined): boolean {
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

function isTypeof(parent: AnyNode | undefined): boolean {
  return parent?.type === 'UnaryExpression' && parent.operator === 'typeof';
}

function unknownMend(name: string): string {
  return outsideNames.includes(name)
    ? 'A policy runs without Node, browser, files, network and timers; do such work in prepare.'
    : `A policy may use the language alone; declare or import ${name}.`;
}
