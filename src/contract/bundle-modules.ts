// Names for the modules of a bundle that do not depend on where they lie.
import { readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import type { Loader, OnResolveArgs, OnResolveResult, Plugin } from 'esbuild';
import { LockstepError } from '../errors.ts';
import { codeLoaders } from './loaders.ts';

export interface ModuleNames {
  /** Stable name (`policy:speaker.ts`) to the absolute path of the file. */
  readonly files: Map<string, string>;
  /** Folder that users' modules are named relative to. */
  readonly root: string;
}

/** src/ in tests, dist/ for users; the compiled files bundle to the same bytes. */
const ownRoot = path.dirname(import.meta.dirname);
const ownExtension = path.extname(import.meta.filename);

/** Whether a file is Lockstep's. */
export function isOwnModule(file: string): boolean {
  return file.startsWith(ownRoot + path.sep);
}

const loaders: Readonly<Record<string, Loader>> = { ...codeLoaders, '.json': 'json' };

/** esbuild plugin that resolves as usual, but gives every file a stable name. */
export function bundlePlugin(names: ModuleNames): Plugin {
  return {
    name: 'lockstep-policy',
    setup(builder) {
      builder.onResolve({ filter: /.*/ }, async (args): Promise<OnResolveResult | undefined> => {
        if (args.pluginData === resolving) return undefined;
        if (args.path === 'lockstep' || args.path === 'lockstep/policies') {
          return named(path.join(ownRoot, 'policies', `index${ownExtension}`), names, false);
        }
        if (isBuiltin(args.path)) throw builtin(args, names);
        const {
          path: file,
          errors,
          warnings,
          sideEffects,
        } = await builder.resolve(
          args.namespace === 'lockstep' ? args.path + ownExtension : args.path,
          {
            resolveDir: args.resolveDir,
            kind: args.kind,
            pluginData: resolving,
          },
        );
        if (errors.length > 0) return { errors, warnings };
        const kit = kitName(file);
        if (kit !== undefined) return { path: kit, namespace: 'kit', sideEffects: false };
        return named(file, names, isOwnModule(file) ? false : sideEffects);
      });
      builder.onLoad({ filter: /.*/, namespace: 'lockstep' }, (args) =>
        load(args.path, 'lockstep'),
      );
      builder.onLoad({ filter: /.*/, namespace: 'kit' }, ({ path: module }) => ({
        contents: (kit[module] ?? [])
          .map((name) => `export const ${name} = lockstep.${name};`)
          .join('\n'),
        loader: 'js',
      }));
      builder.onLoad({ filter: /.*/, namespace: 'npm' }, (args) => load(args.path, 'npm'));
      builder.onLoad({ filter: /.*/, namespace: 'policy' }, (args) => load(args.path, 'policy'));

      async function load(name: string, namespace: string) {
        const file = names.files.get(`${namespace}:${name}`) as string;
        const text = await readFile(file, 'utf8');
        // tsc's maps lead out of dist/; places are given in the files that are bundled.
        const contents = text.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, '\n');
        const loader = loaders[path.extname(file)] ?? ('js' as const);
        const resolveDir = path.dirname(file);
        if (namespace !== 'lockstep') return { contents, loader, resolveDir };
        const short = await shortened(file, contents, loader);
        return { contents: short, loader: 'js' as const, resolveDir };
      }
    },
  };
}

/** A module of Lockstep's own policies with short names and without line breaks; made once for each file. */
async function shortened(file: string, contents: string, loader: Loader): Promise<string> {
  const known = shortModules.get(file);
  if (known !== undefined && known.contents === contents) return known.short;
  const { transform } = await import('esbuild');
  // tsc breaks lines elsewhere, and esbuild keeps some breaks: have none.
  const { code } = await transform(contents, {
    loader,
    minifyWhitespace: true,
    charset: 'utf8',
    target: 'es2022',
    tsconfigRaw: {},
  });
  // Names inside of Lockstep's own policies are not part of a contract. They are shortened in a second
  // step, because short names depend on the text, and the text before this step has types and extensions.
  const bare = code.replace(/(from"\.{1,2}\/[^"]*)\.[jt]s"/g, '$1"');
  const { code: short } = await transform(bare, {
    minifyIdentifiers: true,
    minifyWhitespace: true,
  });
  shortModules.set(file, { contents, short });
  return short;
}

const shortModules = new Map<string, { contents: string; short: string }>();

/**
 * Modules of Lockstep that policies import, and that the policy runtime offers instead: their text is no
 * part of policy.js.
 */
const kit: Readonly<Record<string, readonly string[]>> = {
  'policies/define': ['definePolicy'],
  'policies/policy': ['derived', 'has'],
  'policies/params': ['refusal'],
  'policies/combinators/combine': ['defineCombinator', 'expectPolicy', 'withOrigin'],
  errors: ['LockstepError'],
};

function kitName(file: string): string | undefined {
  if (!isOwnModule(file)) return undefined;
  const relative = path.relative(ownRoot, file).split(path.sep).join('/');
  const name = relative.slice(0, -path.extname(relative).length);
  return Object.hasOwn(kit, name) ? name : undefined;
}

/** Marks a resolution that the plugin asked esbuild for. */
const resolving = Symbol('resolving');

function named(file: string, names: ModuleNames, sideEffects: boolean): OnResolveResult {
  const [namespace, relative] = place(file, names.root);
  const name = relative.split(path.sep).join('/');
  names.files.set(`${namespace}:${name}`, file);
  return { path: name, namespace, sideEffects };
}

function place(file: string, root: string): [namespace: string, relative: string] {
  if (isOwnModule(file)) {
    const relative = path.relative(ownRoot, file);
    return ['lockstep', relative.slice(0, -path.extname(relative).length)];
  }
  const marker = `${path.sep}node_modules${path.sep}`;
  const at = file.lastIndexOf(marker);
  if (at !== -1) return ['npm', file.slice(at + marker.length)];
  return ['policy', path.relative(root, file)];
}

function builtin(args: OnResolveArgs, names: ModuleNames): LockstepError {
  const importer = names.files.get(args.importer) ?? args.importer;
  return new LockstepError(
    'LS_POLICY_NONDETERMINISTIC',
    `${path.relative(process.cwd(), importer)}: expected what every engine has, got an import of the Node module ${args.path}`,
    { fix: 'A policy runs without Node: compute in prepare, and pass settings as params.' },
  );
}
