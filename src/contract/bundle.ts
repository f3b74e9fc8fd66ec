// policy.js: one readable script with the policy and the planner, the same bytes everywhere.
import { createHash } from 'node:crypto';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildFailure, build, type Message } from 'esbuild';
import { LockstepError } from '../errors.ts';
import { originOf, type Policy } from '../policies/policy.ts';
import { bundlePlugin, type ModuleNames } from './bundle-modules.ts';
import { nondeterminism } from './determinism.ts';

/** A policy as it is shipped. */
export interface PolicyBundle {
  /** policy.js. */
  readonly source: string;
  /** SHA-256 of its UTF-8 bytes, in lowercase hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Bundle a policy, what it imports, and the planner into one script.
 *
 * The bytes depend on the text of the modules and on the parameters, not on folders or machines.
 *
 * @throws LS_POLICY_MODULE for a policy whose module is not known
 * @throws LS_POLICY_BUNDLE where a module cannot be read, resolved or parsed
 * @throws LS_POLICY_NONDETERMINISTIC for code that engines may run differently, with its place
 */
export async function bundlePolicy(policy: Policy): Promise<PolicyBundle> {
  const modules = [...new Set(modulesOf(policy))].sort();
  const names: ModuleNames = { files: new Map(), root: commonFolder(modules) };
  const { source, map } = await run(entry(policy, modules), names);
  const [finding] = located(nondeterminism(source), map, names);
  if (finding !== undefined) {
    throw new LockstepError(
      'LS_POLICY_NONDETERMINISTIC',
      `${finding.place}: expected what every engine computes alike, got a policy that ${finding.what}`,
      { mend: finding.mend },
    );
  }
  return { source, sha256: createHash('sha256').update(source).digest('hex') };
}

/** The modules of a policy and of the policies it holds. */
function modulesOf(policy: Policy): string[] {
  const origin = originOf(policy);
  const name = String((policy as Partial<Policy> | undefined)?.name);
  const mend = `Define ${name} in a file of its own, export it, and import it in the config (or pass module: import.meta.url to definePolicy).`;
  if (origin?.module === undefined) {
    throw new LockstepError(
      'LS_POLICY_MODULE',
      `expected a policy made by definePolicy with a known module, got ${name}`,
      { mend },
    );
  }
  const file = fileURLToPath(origin.module);
  if (/^lockstep\.config\.[cm]?[jt]s$/.test(path.basename(file))) {
    throw new LockstepError(
      'LS_POLICY_MODULE',
      `expected the policy ${name} in a file of its own, got it in ${path.basename(file)}`,
      { mend: `${mend} Training settings must not change the policy's bytes.` },
    );
  }
  return [file, ...origin.policies.flatMap(modulesOf)];
}

/** The entry module: hardens the realm, makes the policy again, offers the planner. */
function entry(policy: Policy, modules: readonly string[]): string {
  const revived = (held: Policy): string => {
    const origin = originOf(held);
    const policies = origin?.policies ?? [];
    const { policies: _trees, ...own } = held.params;
    const params = JSON.stringify(policies.length === 0 ? held.params : own);
    const module = `m${modules.indexOf(fileURLToPath(origin?.module ?? ''))}`;
    const inner = policies.map(revived).join(', ');
    return `revive(${module}, ${JSON.stringify(held.name)}, ${params}, [${inner}])`;
  };
  return [
    "import { realm } from 'lockstep:planner/harden-now';",
    "import { install } from 'lockstep:planner/install';",
    "import { revive } from 'lockstep:policies/revive';",
    ...modules.map((file, i) => `import * as m${i} from ${JSON.stringify(file)};`),
    `install(realm, ${revived(policy)});`,
  ].join('\n');
}

async function run(
  contents: string,
  names: ModuleNames,
): Promise<{ source: string; map: SourceMap }> {
  try {
    const { outputFiles } = await build({
      stdin: { contents, loader: 'js', sourcefile: 'policy', resolveDir: names.root },
      bundle: true,
      write: false,
      format: 'iife',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      target: 'es2022',
      charset: 'utf8',
      banner: { js: '"use strict";' },
      define: { 'import.meta.url': '""' },
      tsconfigRaw: {},
      sourcemap: 'external',
      sourcesContent: false,
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
      mend: 'Correct the policy; it may import packages and files of its own, and lockstep.',
      cause: error,
    });
  }
}

/** Findings in the authors' own files; the planner's hardening is exempt, as it names what it removes. */
function located(
  findings: ReturnType<typeof nondeterminism>,
  map: SourceMap,
  names: ModuleNames,
): { place: string; what: string; mend: string }[] {
  return findings.flatMap(({ line, column, what, mend }) => {
    const origin = map.findEntry(line - 1, column);
    if (!('originalSource' in origin)) return [];
    const source = origin.originalSource;
    if (source === 'policy' || source.startsWith('lockstep:planner/harden')) return [];
    return [{ place: `${shown(source, names)}:${origin.originalLine + 1}`, what, mend }];
  });
}

function messagePlace({ location }: Message, names: ModuleNames): string {
  return location === null ? '' : `${shown(location.file, names)}:${location.line}: `;
}

/** A module's stable name as a path that the user knows. */
function shown(name: string, names: ModuleNames): string {
  const file = names.files.get(name);
  return file === undefined ? name : path.relative(process.cwd(), file);
}

function commonFolder(files: readonly string[]): string {
  let folder = path.dirname(files[0] as string);
  while (!files.every((file) => file.startsWith(folder + path.sep))) folder = path.dirname(folder);
  return folder;
}
