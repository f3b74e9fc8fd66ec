// policy.js: one readable script with the policy and what it imports, the same bytes everywhere.
//
// The planner's rule is not in it: that is the frozen policy runtime (src/planner/runtime), which runs it.
import { createHash } from 'node:crypto';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'acorn';
import type { BuildFailure, Message } from 'esbuild';
import { LockstepError } from '../errors.ts';
import { originOf, type Policy } from '../policies/policy.ts';
import { type Finding, nondeterminism } from './analysis/determinism.ts';
import { instrument } from './analysis/instrument.ts';
import { outsideMemory } from './analysis/memory.ts';
import { bundlePlugin, isOwnModule, type ModuleNames } from './bundle-modules.ts';
import { authorsPlaces, placeBefore } from './bundle-places.ts';
import { rememberPlaces } from './policy-places.ts';

/** A policy as it is shipped. */
export interface PolicyBundle {
  /** policy.js. */
  readonly source: string;
  /** SHA-256 of its UTF-8 bytes, in lowercase hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Bundle a policy and what it imports into one script: a function of the runtime's `lockstep`.
 *
 * The bytes depend on the text of the modules and on the parameters, not on folders or machines, nor on
 * names inside of Lockstep.
 *
 * @throws LS_POLICY_MODULE for a policy whose module is not known
 * @throws LS_POLICY_BUNDLE where a module cannot be read, resolved or parsed
 * @throws LS_POLICY_NONDETERMINISTIC for code that engines may run differently, LS_POLICY_MEMORY for
 *   memory outside of the state, each with its place
 */
export async function bundlePolicy(policy: Policy): Promise<PolicyBundle> {
  const modules = [...new Set(modulesOf(policy))].sort();
  const names: ModuleNames = { files: new Map(), root: commonFolder(modules) };
  const { source: bundled, map } = await run(entry(policy, modules), names);
  // Where Lockstep's own modules lie is no part of a contract.
  const bundle = bundled.replace(/^\/\/ (?:kit|lockstep):.*$/gm, '// lockstep');
  const program = parse(bundle, { ecmaVersion: 2022, sourceType: 'module', locations: true });
  const place = (line: number, column: number, ownOnly = false): string | undefined => {
    const origin = map.findEntry(line - 1, column);
    if (!('originalSource' in origin) || /^(policy$|kit:)/.test(origin.originalSource)) {
      return undefined;
    }
    if (ownOnly && origin.originalSource.startsWith('npm:')) return undefined;
    return `${shown(origin.originalSource, names)}:${origin.originalLine + 1}`;
  };
  const refuse = (findings: readonly Finding[], code: `LS_${string}`, expected: string): void => {
    for (const { line, column, what, fix, ownOnly } of findings) {
      const at = place(line, column, ownOnly);
      // The entry, the runtime's part and esbuild's own helpers have no place.
      if (at === undefined) continue;
      throw new LockstepError(code, `${at}: expected ${expected}, got a policy that ${what}`, {
        fix,
        place: placeBefore(map, names, line, column),
      });
    }
  };
  refuse(nondeterminism(program), 'LS_POLICY_NONDETERMINISTIC', 'what every engine computes alike');
  refuse(outsideMemory(program), 'LS_POLICY_MEMORY', 'no memory but the state');
  // Places stand in the bytes: names that do not depend on folders.
  const stable = (line: number, column: number): string => {
    const origin = map.findEntry(line - 1, column);
    return 'originalSource' in origin
      ? `${origin.originalSource.replace(/^policy:/, '')}:${origin.originalLine + 1}`
      : 'policy.js';
  };
  const body = instrument(bundle, program, stable);
  const source = `${head}${body.text}})\n`;
  rememberPlaces(source, authorsPlaces({ source, head, body, bundle, map, names }));
  return { source, sha256: createHash('sha256').update(source).digest('hex') };
}

const head = '(function (lockstep) {\n"use strict";\n';

/** The modules of a policy and of the policies it holds. */
function modulesOf(policy: Policy): string[] {
  const origin = originOf(policy);
  const name = String((policy as Partial<Policy> | undefined)?.name);
  const fix = `Define ${name} in a file of its own, export it, and import it in the config (or pass module: import.meta.url to definePolicy).`;
  if (origin?.module === undefined) {
    throw new LockstepError(
      'LS_POLICY_MODULE',
      `expected a policy made by definePolicy with a known module, got ${name}`,
      { fix },
    );
  }
  const file = fileURLToPath(origin.module);
  if (/^lockstep\.config\.[cm]?[jt]s$/.test(path.basename(file))) {
    throw new LockstepError(
      'LS_POLICY_MODULE',
      `expected the policy ${name} in a file of its own, got it in ${path.basename(file)}`,
      { fix: `${fix} Training settings must not change the policy's bytes.` },
    );
  }
  return [file, ...origin.policies.flatMap(modulesOf)];
}

/** The entry module: makes the policy again, and hands it to the runtime. */
function entry(policy: Policy, modules: readonly string[]): string {
  const revived = (held: Policy): string => {
    const origin = originOf(held);
    const policies = origin?.policies ?? [];
    const { policies: _trees, ...own } = held.params;
    const params = JSON.stringify(policies.length === 0 ? held.params : own);
    const module = `m${modules.indexOf(fileURLToPath(origin?.module ?? ''))}`;
    const inner = policies.map(revived).join(', ');
    return `lockstep.revive(Object.values(${module}), ${JSON.stringify(held.name)}, ${params}, [${inner}])`;
  };
  return [
    ...modules.map((file, i) => `import * as m${i} from ${JSON.stringify(file)};`),
    `lockstep.install(${revived(policy)});`,
  ].join('\n');
}

async function run(
  contents: string,
  names: ModuleNames,
): Promise<{ source: string; map: SourceMap }> {
  // Most commands bundle nothing.
  const { build } = await import('esbuild');
  try {
    const { outputFiles } = await build({
      stdin: { contents, loader: 'js', sourcefile: 'policy', resolveDir: names.root },
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      target: 'es2022',
      charset: 'utf8',
      define: { 'import.meta.url': '""' },
      tsconfigRaw: {},
      sourcemap: 'external',
      sourcesContent: true,
      outfile: 'policy.js',
      absWorkingDir: names.root,
      logLevel: 'silent',
      plugins: [bundlePlugin(names)],
    });
    const text = (end: string): string =>
      outputFiles.find((file) => file.path.endsWith(end))?.text ?? '';
    return { source: text('.js'), map: new SourceMap(JSON.parse(text('.map'))) };
  } catch (error) {
    const [first] = (error as BuildFailure).errors ?? [];
    if (first === undefined) throw error;
    if (first.detail instanceof LockstepError) throw first.detail;
    throw new LockstepError('LS_POLICY_BUNDLE', `${messagePlace(first, names)}${first.text}`, {
      fix: 'Correct the policy; it may import packages and files of its own, and lockstep.',
      cause: error,
    });
  }
}

function messagePlace({ location }: Message, names: ModuleNames): string {
  return location === null ? '' : `${shown(location.file, names)}:${location.line}: `;
}

/** A module's stable name as a path that the user knows. */
function shown(name: string, names: ModuleNames): string {
  const file = names.files.get(name);
  return file === undefined ? name : path.relative(process.cwd(), file);
}

/**
 * The folder that holds all modules of users: their names are relative to it. Where Lockstep lies says
 * nothing about them.
 */
function commonFolder(modules: readonly string[]): string {
  const users = modules.filter((file) => !isOwnModule(file));
  const files = users.length === 0 ? modules : users;
  let folder = path.dirname(files[0] as string);
  const holds = (file: string): boolean =>
    file.startsWith(folder.endsWith(path.sep) ? folder : folder + path.sep);
  while (!files.every(holds)) folder = path.dirname(folder);
  return folder;
}
