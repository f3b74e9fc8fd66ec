// The realm in which policy.js runs: nothing in it but what every engine computes alike.
//
// Part of policy.js, so Node and QuickJS get the same realm. It guards against mistakes; a policy is
// code, and code from strangers should be read before it is run.
import {
  allowedGlobals,
  exactMath,
  localeMethods,
  outsideNames,
  unicodeMethods,
} from './globals.ts';

class Forbidden extends Error {
  readonly what: string;
  constructor(what: string) {
    super(`reads ${what}`);
    this.what = what;
  }
}

/** Take from the realm what policies may not read. Runs before any code of a policy does. */
export function harden(realm: object): void {
  forbidConstructors();
  forbidMembers(Math, 'Math', (name) => !exactMath.includes(name));
  for (const owner of [Object, Array, String, Number, BigInt]) {
    forbidMembers(owner.prototype, `${owner.name}.prototype`, (name) =>
      localeMethods.includes(name),
    );
  }
  for (const holder of [Math, JSON, Reflect]) Object.freeze(holder);
  for (const name of Object.getOwnPropertyNames(realm)) {
    if (allowedGlobals.includes(name)) {
      // The value is given again: the global object of a vm context loses it otherwise.
      const value = (realm as Record<string, unknown>)[name];
      Reflect.defineProperty(realm, name, { value, writable: false, configurable: false });
    } else {
      Reflect.defineProperty(realm, name, { get: refusing(name), configurable: false });
    }
  }
}

/**
 * From now on only `push`, `start` and `cut` run: no regular expressions, no Unicode tables, and
 * nothing to keep state in but the state.
 */
export function harderStill(): void {
  forbidMembers(
    RegExp.prototype,
    'a regular expression outside prepare',
    (name) => name === 'exec',
  );
  forbidMembers(String.prototype, 'String.prototype', (name) => unicodeMethods.includes(name));
  for (const owner of [Object, Array, String, Number, Boolean, Map, Set, RegExp, Error]) {
    Object.freeze(owner.prototype);
    Object.freeze(owner);
  }
}

/** What an error says a policy read without leave; undefined for other errors. */
export function forbiddenName(error: unknown): string | undefined {
  if (error instanceof Forbidden) return error.what;
  if (!(error instanceof ReferenceError)) return undefined;
  const [name] = error.message.split(' is not defined');
  return outsideNames.includes(name as string) ? name : undefined;
}

function forbidMembers(owner: object, shown: string, which: (name: string) => boolean): void {
  for (const name of Object.getOwnPropertyNames(owner)) {
    if (!which(name)) continue;
    const refuse = refusing(shown.includes(' ') ? shown : `${shown}.${name}`);
    Reflect.defineProperty(owner, name, { value: refuse, writable: false, configurable: false });
  }
}

/** `Function` and its kin make code of strings; every function leads to them. */
function forbidConstructors(): void {
  const kinds = [() => {}, function* () {}, async () => {}, async function* () {}];
  for (const kind of kinds) {
    const prototype = Object.getPrototypeOf(kind) as object;
    const value = refusing('Function (code made of strings)');
    Reflect.defineProperty(prototype, 'constructor', {
      value,
      writable: false,
      configurable: false,
    });
  }
}

function refusing(what: string): () => never {
  return () => {
    throw new Forbidden(what);
  };
}
