// Refuses what engines compute differently, in the very script that will run.
import type { AnyNode, Node, Program } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import { isReference, memberName, resolver } from './free-identifiers.ts';
import {
  allowedGlobals,
  exactMath,
  localeMethods,
  outsideNames,
  unicodeMethods,
} from './globals.ts';
import { runTimeCode } from './reach.ts';

/** One thing a policy may not do, at an offset of the script. */
export interface Finding {
  /** From 1. */
  line: number;
  /** From 0. */
  column: number;
  /** `uses Date`. */
  what: string;
  /** What to use instead. */
  fix: string;
  /** Refused in the author's files alone: packages have it where it never runs, and it is stopped there. */
  ownOnly?: boolean;
}

const stdlib = (name: string): string =>
  `Use the package @stdlib/math-base-special-${name}, whose results are the same in every engine.`;
const fixes: Readonly<Record<string, string>> = {
  Date: 'A policy depends on tokens alone; count tokens in its state.',
  performance: 'A policy depends on tokens alone; count tokens in its state.',
  Intl: 'Decide about text in prepare, with regular expressions or lists of your own.',
  eval: 'Write the code out.',
  Function: 'Write the code out.',
  WeakRef: 'Use Map, or WeakMap; when memory is collected differs between engines.',
  FinalizationRegistry: 'Use Map, or WeakMap; when memory is collected differs between engines.',
  globalThis: 'Import what you need; keep state in the state.',
  process: 'Pass settings as params of the policy.',
  console: 'Return a decision; `lockstep plan FILE --trace` shows each one, and the state.',
  Promise: 'push must answer at once; do slow work in prepare.',
};
const asyncFix = 'push must answer at once; do slow work in prepare.';
const catchFix =
  'An error ends the sequence: what an engine throws, and when its stack or memory is used up, is not for a policy to see. Test before you act.';
const privateFix = 'Write a plain property: private fields cannot be frozen.';
const comparatorFix = 'Return a number, as in (a, b) => a - b.';
const prepareFix = 'Do it in prepare, and store the answer in tables (for example a list of ids).';

/**
 * What in a script is not the same in every engine, in order of place.
 *
 * @param program the bundle, parsed with locations
 */
export function nondeterminism(program: Program): Finding[] {
  const resolve = resolver(program);
  const atRunTime = runTimeCode(program, resolve);
  const findings: Finding[] = [];
  const report = (node: Node, what: string, fix: string, ownOnly = false): void => {
    const { line, column } = node.loc?.start ?? { line: 1, column: 0 };
    findings.push({ line, column, what, fix, ownOnly });
  };

  fullAncestor(program, (node, _state, ancestors) => {
    const parent = ancestors.at(-2);
    switch (node.type) {
      case 'Identifier':
        if (!isReference(node, parent) || resolve(node.name, ancestors) !== undefined) return;
        if (node.name === 'Math') checkMath(node, parent, report);
        else if (node.name === 'RegExp' && atRunTime(ancestors)) {
          report(node, 'uses a regular expression outside prepare', prepareFix);
        } else if (!allowedGlobals.includes(node.name) && !isTypeof(parent)) {
          report(node, `uses ${node.name}`, fixes[node.name] ?? unknownFix(node.name));
        }
        return;
      case 'MemberExpression': {
        const name = memberName(node);
        if (node.property.type === 'PrivateIdentifier' && atRunTime(ancestors)) {
          report(node, `uses a private field (#${node.property.name})`, privateFix);
        }
        if (name !== undefined && localeMethods.includes(name)) {
          report(node, `uses ${name}`, 'Compare strings with < and >, which go by code units.');
        } else if (name !== undefined && unicodeMethods.includes(name) && atRunTime(ancestors)) {
          report(node, `uses ${name} outside prepare`, prepareFix);
        }
        return;
      }
      case 'Literal':
        if ('bigint' in node) report(node, 'uses a BigInt', 'Token ids are integers: use numbers.');
        if ('regex' in node && atRunTime(ancestors)) {
          report(node, 'uses a regular expression outside prepare', prepareFix);
        }
        return;
      case 'BinaryExpression':
      case 'AssignmentExpression':
        if (node.operator.startsWith('**')) {
          report(node, `uses ${node.operator}`, `Multiply, shift, or: ${stdlib('pow')}`);
        }
        return;
      case 'TryStatement':
        if (!atRunTime(ancestors)) return;
        if (node.finalizer && jumps(node.finalizer)) {
          report(
            node.finalizer,
            'leaves a finally block by a jump, which drops an error',
            catchFix,
          );
        } else report(node, 'catches errors outside prepare', catchFix, true);
        return;
      case 'CallExpression':
        if (comparesByBoolean(node)) {
          report(node, 'sorts with a comparator that returns a boolean', comparatorFix);
        }
        return;
      case 'ImportExpression':
        report(node, 'uses import()', 'Import at the top of the file.');
        return;
      case 'AwaitExpression':
        report(node, 'uses await', asyncFix);
        return;
      case 'ForOfStatement':
        if (node.await) report(node, 'uses for await', asyncFix);
        return;
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
        if (node.async) report(node, 'uses an async function', asyncFix);
        return;
    }
  });
  return findings.sort((a, b) => a.line - b.line || a.column - b.column);
}

/** Whether a finally block may end by return, break or continue. */
function jumps(block: AnyNode): boolean {
  let found = false;
  fullAncestor(block, (node, _state, ancestors) => {
    if (!/^(Return|Break|Continue)Statement$/.test(node.type)) return;
    found ||= !ancestors.some((each) => /Function/.test(each.type));
  });
  return found;
}

/** `list.sort((a, b) => a > b)`: engines sort such a list differently. */
function comparesByBoolean(node: AnyNode & { type: 'CallExpression' }): boolean {
  const [comparator] = node.arguments;
  if (node.callee.type !== 'MemberExpression' || comparator === undefined) return false;
  if (!['sort', 'toSorted'].includes(memberName(node.callee) ?? '')) return false;
  if (comparator.type !== 'ArrowFunctionExpression' && comparator.type !== 'FunctionExpression') {
    return false;
  }
  const { body } = comparator;
  if (body.type !== 'BlockStatement') return isBoolean(body);
  return body.body.some(
    (statement) =>
      statement.type === 'ReturnStatement' && statement.argument && isBoolean(statement.argument),
  );
}

function isBoolean(node: AnyNode): boolean {
  if (node.type === 'BinaryExpression')
    return /^([<>]=?|[!=]==?|in|instanceof)$/.test(node.operator);
  if (node.type === 'UnaryExpression') return node.operator === '!';
  if (node.type === 'LogicalExpression') return isBoolean(node.left) || isBoolean(node.right);
  return node.type === 'Literal' && typeof node.value === 'boolean';
}

type Report = (node: Node, what: string, fix: string) => void;

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

function isTypeof(parent: AnyNode | undefined): boolean {
  return parent?.type === 'UnaryExpression' && parent.operator === 'typeof';
}

function unknownFix(name: string): string {
  return outsideNames.includes(name)
    ? 'A policy runs without Node, browser, files, network and timers; do such work in prepare.'
    : `A policy may use the language alone; declare or import ${name}.`;
}
