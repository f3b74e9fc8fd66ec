// Reads TypeScript and JavaScript files: functions, calls and the places that make errors.
import { readFileSync } from 'node:fs';
import { parse } from 'acorn';
import { transform } from 'esbuild';
import type { Expr, SourceModel } from './source-model.ts';

/** Any node of the syntax tree (ESTree). */
// biome-ignore lint/suspicious/noExplicitAny: acorn's nodes are read by their `type`.
type Node = any;

/** Classes of errors, made with (code, message, fix). */
const ERRORS = new Set(['LockstepError', 'PolicyFault', 'SetupError']);

const UNKNOWN: Expr = { kind: 'unknown' };

/** What `file` holds; its types are removed by esbuild first. */
export async function readTypeScript(file: string, shown: string): Promise<SourceModel> {
  const { code } = await transform(readFileSync(file, 'utf8'), { loader: 'ts', target: 'esnext' });
  const model: SourceModel = {
    path: shown,
    constants: {},
    imports: {},
    functions: [],
    calls: [],
    sites: [],
  };
  visit(parse(code, { ecmaVersion: 'latest', sourceType: 'module' }), -1, '', model);
  return model;
}

function visit(node: Node, inside: number, name: string, model: SourceModel): void {
  if (node === null || typeof node !== 'object') return;
  if (Array.isArray(node)) {
    for (const child of node) visit(child, inside, '', model);
    return;
  }
  if (typeof node.type !== 'string') return;
  if (node.type === 'ImportDeclaration') {
    for (const { local, imported } of node.specifiers) {
      if (imported === undefined) continue;
      model.imports[local.name] = { name: imported.name, from: stemOf(node.source.value) };
    }
    return;
  }
  if (isFunction(node)) {
    const index = model.functions.length;
    const params = node.params.map((param: Node) => nameOf(param));
    const defaults: Record<string, Expr> = {};
    for (const param of node.params) {
      if (param.type === 'AssignmentPattern') defaults[nameOf(param)] = expression(param.right);
    }
    const own = node.id?.name ?? name;
    model.functions.push({ name: own, params, defaults, locals: {}, parent: inside });
    for (const param of node.params) visit(param, index, '', model);
    visit(node.body, index, '', model);
    return;
  }
  if (node.type === 'VariableDeclarator') note(node.id, node.init, inside, model);
  if (node.type === 'AssignmentExpression') note(node.left, node.right, inside, model);
  if (node.type === 'CallExpression' || node.type === 'NewExpression') {
    const args = node.arguments.map(expression);
    const callee = nameOf(node.callee);
    if (ERRORS.has(callee)) {
      const fix = fixOf(args[2]);
      model.sites.push({ code: args[0], message: args[1], fix, inside });
    }
    model.calls.push({ callee, args, named: {}, inside });
  }
  noteTable(node, inside, model);
  for (const [key, child] of Object.entries(node)) {
    if (key !== 'type') visit(child, inside, named(node, key), model);
  }
}

/** The fix in the last argument of an error: `{ fix }`, one of several such objects, or the text itself. */
function fixOf(given: Expr | undefined): Expr | undefined {
  if (given?.kind === 'object') return given.fields['fix'];
  if (given?.kind !== 'either') return given;
  const of = given.of.map(fixOf).filter((fix) => fix !== undefined);
  return of.length === 0 ? undefined : { kind: 'either', of };
}

/** Codes in tables: `{ code, message }`, `[code, message]`, `{ LS_CODE: fix }`. */
function noteTable(node: Node, inside: number, model: SourceModel): void {
  if (node.type === 'ArrayExpression' && node.elements.length >= 2) {
    const [code, message, fix] = node.elements.map(expression);
    if (
      code.kind === 'text' &&
      isCode(code.value) &&
      !(message.kind === 'text' && isCode(message.value))
    ) {
      model.sites.push({ code, message, fix, inside });
    }
  }
  if (node.type !== 'ObjectExpression') return;
  const { fields } = expression(node) as Extract<Expr, { kind: 'object' }>;
  const { code, message, fix } = fields;
  if (code !== undefined && message !== undefined) {
    model.sites.push({
      code,
      message,
      ...(fix === undefined ? { warns: true } : { fix: fix }),
      inside,
    });
  }
  for (const [key, value] of Object.entries(fields)) {
    if (isCode(key) && (value.kind === 'text' || value.kind === 'parts')) {
      model.sites.push({ code: { kind: 'text', value: key }, fix: value, inside });
    }
  }
}

function note(target: Node, value: Node, inside: number, model: SourceModel): void {
  if (target.type !== 'Identifier' || value == null || isFunction(value)) return;
  if (inside === -1) model.constants[target.name] = expression(value);
  else {
    const { locals } = model.functions[inside] as SourceModel['functions'][number];
    locals[target.name] = [...(locals[target.name] ?? []), expression(value)];
  }
}

function expression(node: Node): Expr {
  switch (node?.type) {
    case 'Literal':
      return typeof node.value === 'string' ? { kind: 'text', value: node.value } : UNKNOWN;
    case 'TemplateLiteral': {
      const of: Expr[] = [];
      for (const [at, quasi] of node.quasis.entries()) {
        if (quasi.value.cooked !== '') of.push({ kind: 'text', value: quasi.value.cooked });
        if (at < node.expressions.length) of.push(expression(node.expressions[at]));
      }
      return { kind: 'parts', of };
    }
    case 'BinaryExpression':
      if (node.operator !== '+') return UNKNOWN;
      return { kind: 'parts', of: [expression(node.left), expression(node.right)] };
    case 'ConditionalExpression':
      return { kind: 'either', of: [expression(node.consequent), expression(node.alternate)] };
    case 'LogicalExpression':
      return { kind: 'either', of: [expression(node.left), expression(node.right)] };
    case 'Identifier':
      return { kind: 'name', name: node.name };
    case 'MemberExpression':
      return {
        kind: 'member',
        object: expression(node.object),
        key: node.computed
          ? expression(node.property)
          : { kind: 'text', value: node.property.name },
      };
    case 'ObjectExpression': {
      const fields: Record<string, Expr> = {};
      for (const property of node.properties) {
        if (property.type === 'SpreadElement') {
          const spread = expression(property.argument);
          for (const one of spread.kind === 'either' ? spread.of : [spread]) {
            if (one.kind === 'object') Object.assign(fields, one.fields);
          }
        } else if (!property.computed) {
          fields[property.key.name ?? String(property.key.value)] = expression(property.value);
        }
      }
      return { kind: 'object', fields };
    }
    default:
      return UNKNOWN;
  }
}

/** Name of a file without its folder and its endings. */
export const stemOf = (file: string): string =>
  (file.split('/').at(-1) as string).replace(/\.\w+$/, '');

const isFunction = (node: Node): boolean =>
  ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'].includes(node?.type);

const isCode = (text: string): boolean => /^LS_[A-Z0-9_]+$/.test(text);

/** The name that a child's function is known by: of a variable, a method, a property. */
function named(node: Node, key: string): string {
  if (key === 'init') return nameOf(node.id);
  if (key === 'value') return nameOf(node.key);
  return key === 'right' ? nameOf(node.left) : '';
}

function nameOf(node: Node): string {
  switch (node?.type) {
    case 'Identifier':
    case 'PrivateIdentifier':
      return node.name;
    case 'MemberExpression':
      return nameOf(node.property);
    case 'AssignmentPattern':
      return nameOf(node.left);
    default:
      return '';
  }
}
