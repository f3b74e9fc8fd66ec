// Follows the places that make errors to the words that a user reads, through helpers and tables.

import type { Expr, SiteModel, SourceModel } from './source-model.ts';
import { stemOf } from './typescript-sources.ts';

/** What one place can say. `…` stands for a value. */
export interface ErrorText {
  code: string;
  message?: string;
  fix?: string;
  path: string;
  warns: boolean;
}

/** Part of a text: words, a value, or a parameter of the function with that index. */
type Part = string | null | { param: string; of: number };
type Bound = ReadonlyMap<string, Part[][]>;

const MOST_ALTERNATIVES = 24;
const DEPTH = 4;

/** Every text of every place in `models` (one language). */
export function errorTexts(models: readonly SourceModel[]): ErrorText[] {
  return models.flatMap((model) =>
    model.sites.flatMap((site) => textsOf(site, model, models, new Map(), site.inside, 0)),
  );
}

function textsOf(
  site: SiteModel,
  model: SourceModel,
  models: readonly SourceModel[],
  bound: Bound,
  inside: number,
  depth: number,
): ErrorText[] {
  const reader = new Reader(model, models, bound);
  const codes = reader.values(site.code, site.inside);
  const messages = reader.values(site.message, site.inside);
  const fixes = reader.values(site.fix, site.inside);
  const open = [...codes.flat().filter(isParam), ...[...messages, ...fixes].filter(thin).flat()]
    .filter(isParam)
    .map(({ of }) => of);
  const caller = depth < DEPTH && open.length > 0 ? callsOf(Math.max(...open), model, models) : [];
  if (caller.length > 0) {
    const of = Math.max(...open);
    const { params, defaults } = model.functions[of] as SourceModel['functions'][number];
    const own = new Reader(model, models, bound);
    return caller.flatMap(({ call, from }) => {
      const outer = new Reader(from, models, from === model ? bound : new Map());
      const next = new Map(bound);
      for (const [at, param] of params.entries()) {
        const given = call.args[at] ?? call.named[param];
        const values =
          given !== undefined
            ? outer.values(given, call.inside)
            : Object.hasOwn(defaults, param)
              ? own.values(defaults[param], of)
              : [[null]];
        // Parameters of a caller in another file cannot be followed from here.
        const kept = from === model ? values : values.map((value) => value.map(closed));
        next.set(`${of} ${param}`, kept);
      }
      return textsOf(site, model, models, next, inside, depth + 1);
    });
  }
  const texts: ErrorText[] = [];
  for (const code of codes.map(written)) {
    if (!/^LS_[A-Z0-9_]+$/.test(code)) continue;
    for (const message of messages.length > 0 ? messages : [null]) {
      for (const fix of fixes.length > 0 ? fixes : [null]) {
        const text: ErrorText = { code, path: model.path, warns: site.warns === true };
        if (message !== null) text.message = written(message);
        if (fix !== null) text.fix = written(fix);
        texts.push(text);
      }
    }
  }
  return texts;
}

class Reader {
  readonly #model: SourceModel;
  readonly #models: readonly SourceModel[];
  readonly #bound: Bound;

  constructor(model: SourceModel, models: readonly SourceModel[], bound: Bound) {
    this.#model = model;
    this.#models = models;
    this.#bound = bound;
  }

  /** The alternatives of `expr`, each a list of parts. */
  values(expr: Expr | undefined, inside: number, depth = 0): Part[][] {
    if (expr === undefined) return [];
    if (depth > 12) return [[null]];
    const read = (one: Expr) => this.values(one, inside, depth + 1);
    switch (expr.kind) {
      case 'text':
        return [[expr.value === '' ? null : expr.value]];
      case 'either': {
        const all = expr.of.flatMap(read);
        const told = all.filter((value) => value.some((part) => part !== null));
        return told.length > 0 ? told : [[null]];
      }
      case 'parts': {
        let made: Part[][] = [[]];
        for (const part of expr.of) {
          const found = read(part);
          const plain = part.kind === 'text' || part.kind === 'parts' || found.length === 1;
          const next = plain || this.#resolved(part, found) ? found : [[null]];
          if (made.length * next.length > MOST_ALTERNATIVES)
            made = made.map((one) => [...one, null]);
          else made = made.flatMap((one) => next.map((value) => [...one, ...value]));
        }
        return made;
      }
      case 'name':
        return this.#named(expr.name, inside, depth + 1);
      case 'member': {
        const object = this.#object(expr.object, inside);
        if (object === undefined) return [[null]];
        const keys = this.values(expr.key, inside, depth + 1).map(written);
        const known = keys.filter((key) => object[key] !== undefined);
        return known.length === 0
          ? Object.values(object).flatMap(read)
          : known.flatMap((key) => read(object[key] as Expr));
      }
      default:
        return [[null]];
    }
  }

  /** Whether a choice inside a text is of short words, so that each is worth its own line. */
  #resolved(part: Expr, found: Part[][]): boolean {
    return (
      part.kind === 'name' &&
      found.every((value) => value.every((one) => one !== null)) &&
      found.length <= 4
    );
  }

  #named(name: string, inside: number, depth: number): Part[][] {
    for (let at = inside; at !== -1; ) {
      const { locals, params, parent } = this.#model.functions[
        at
      ] as SourceModel['functions'][number];
      if (Object.hasOwn(locals, name) && !params.includes(name)) {
        const found = (locals[name] as Expr[])
          .flatMap((value) => this.values(value, at, depth))
          .filter((value) => value.some((part) => part !== null));
        return found.length === 0 || found.length > 6 ? [[null]] : found;
      }
      if (params.includes(name))
        return this.#bound.get(`${at} ${name}`) ?? [[{ param: name, of: at }]];
      at = parent;
    }
    const constant = this.#constant(name);
    return constant === undefined ? [[null]] : this.values(constant, -1, depth);
  }

  #object(expr: Expr, inside: number): Record<string, Expr> | undefined {
    if (expr.kind === 'object') return expr.fields;
    if (expr.kind !== 'name') return undefined;
    for (let at = inside; at !== -1; ) {
      const { locals, parent } = this.#model.functions[at] as SourceModel['functions'][number];
      const found = locals[expr.name]?.find((value) => value.kind === 'object');
      if (found?.kind === 'object') return found.fields;
      at = parent;
    }
    const constant = this.#constant(expr.name);
    return constant?.kind === 'object' ? constant.fields : undefined;
  }

  #constant(name: string): Expr | undefined {
    const own = this.#model.constants[name];
    if (own !== undefined && Object.hasOwn(this.#model.constants, name)) return own;
    const imported = this.#model.imports[name];
    if (imported === undefined || !Object.hasOwn(this.#model.imports, name)) return undefined;
    const from = this.#models.find(
      (model) => Object.hasOwn(model.constants, imported.name) && comesFrom(imported.from, model),
    );
    return from?.constants[imported.name];
  }
}

function callsOf(at: number, model: SourceModel, models: readonly SourceModel[]) {
  const { name } = model.functions[at] as SourceModel['functions'][number];
  if (name === '') return [];
  return models.flatMap((from) =>
    from.calls
      .filter(({ callee }) => {
        if (from === model) return callee === name;
        const imported = Object.hasOwn(from.imports, callee) ? from.imports[callee] : undefined;
        return imported?.name === name && comesFrom(imported.from, model);
      })
      .map((call) => ({ call, from })),
  );
}

/** Whether an import `from` names this module, or may pass it on. */
const comesFrom = (from: string, { path }: SourceModel): boolean =>
  [stemOf(path), 'index', ''].includes(from) || path.endsWith(`${from}/__init__.py`);

const isParam = (part: Part): part is { param: string; of: number } =>
  part !== null && typeof part !== 'string';

/** A text with hardly a word of its own: its words come with the parameters. */
function thin(value: readonly Part[]): boolean {
  const words = value.filter((part) => typeof part === 'string').join(' ');
  return (words.replace(/\b(expected|got|but)\b/g, '').match(/[a-z]/gi) ?? []).length < 10;
}

const closed = (part: Part): Part => (isParam(part) ? null : part);

function written(value: readonly Part[]): string {
  return value
    .map((part) => (typeof part === 'string' ? part : '…'))
    .join('')
    .replace(/…(\s*…)+/g, '…')
    .replace(/\s+/g, ' ')
    .trim();
}
