// lockstep.config.ts to a validated config: bundled by esbuild, run once, checked against the schema.
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import vm from 'node:vm';
import type { BuildFailure, Message } from 'esbuild';
import { placeIn } from '../code-frame.ts';
import { userCodeLimit, withinTime } from '../contract/time-limit.ts';
import { LockstepError, type LockstepErrorOptions, type SourcePlace } from '../errors.ts';
import { originOf, type Policy } from '../policies/policy.ts';
import { systemProblem } from '../system-error.ts';
import { isOwn, placeInConfig, rememberConfig, rememberInputs } from '../user-places.ts';
import { configPlugin } from './plugin.ts';
import { type ConfigValues, parseConfig } from './schema.ts';
import type { TrainingSettings } from './training.ts';

/** A config as the commands use it: validated, defaults filled in, paths absolute. */
export type Config = Omit<ConfigValues, 'training'> & {
  /** The file it came from. */
  readonly file: string;
  /** Folder of that file: what relative paths are relative to. */
  readonly root: string;
  readonly training: TrainingSettings | undefined;
};

export const defaultConfigFile = 'lockstep.config.ts';

/**
 * Load and validate a config file.
 *
 * @param file path of the config; `lockstep.config.ts` in the working folder by default
 * @throws LS_CONFIG_MISSING, LS_CONFIG_FAILED (it threw), LS_CONFIG_INVALID, and what the bundler finds (LS_CONFIG_IMPORT, ...)
 */
export async function loadConfig(file: string = defaultConfigFile): Promise<Config> {
  const absolute = path.resolve(file);
  checkConfigFile(file, 'Create it with lockstep init, or name another one with --config.');
  const shown = path.relative(process.cwd(), absolute) || absolute;
  const value = await loadDefault(absolute, shown, 'defineConfig({...})');
  const values = parseConfig(value, shown);
  refuseOwnPolicy(values.policy, absolute);
  return resolvePaths(values, absolute);
}

/**
 * Refuse what is no file of text before anybody looks for its syntax.
 *
 * @throws LS_CONFIG_MISSING
 */
export function checkConfigFile(file: string, fix: string): void {
  if (file === '') {
    throw new LockstepError('LS_CONFIG_MISSING', 'expected a config file, got an empty name', {
      fix,
    });
  }
  const got = fileProblem(path.resolve(file));
  if (got === null) return;
  throw new LockstepError('LS_CONFIG_MISSING', `expected a config file, got ${got} at ${file}`, {
    fix,
  });
}

/** What a config cannot be: null where it is a file that begins with UTF-8 text. */
function fileProblem(file: string): string | null {
  try {
    if (statSync(file).isDirectory()) return 'a folder';
    const handle = openSync(file, 'r');
    const start = Buffer.alloc(65_536);
    try {
      const text = start.subarray(0, readSync(handle, start, 0, start.length, 0));
      if (text.includes(0)) return 'a file that is no text';
      // What the last bytes begin may go on beyond them.
      new TextDecoder('utf-8', { fatal: true }).decode(text, { stream: true });
    } finally {
      closeSync(handle);
    }
    return null;
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    if (name === 'TypeError') return 'a file that is no text';
    return code === 'ENOENT' ? 'none' : systemProblem(error);
  }
}

/**
 * What a config's module exports by default.
 *
 * @param shown the file, as errors name it
 * @param call what the file is to export
 * @throws LS_CONFIG_IMPORT, LS_CONFIG_AWAIT, LS_CONFIG_SYNTAX, LS_CONFIG_FAILED (it threw), LS_CONFIG_INVALID (it exports nothing)
 */
export async function loadDefault(file: string, shown: string, call: string): Promise<unknown> {
  const value = evaluate(await bundle(file), file, shown);
  // Awaited, a promise that never settles would end the process without a word.
  const later = typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
  if (value !== undefined && !later) return value;
  const fix = `Write \`export default ${call}\`.`;
  if (later) {
    const message = `${shown}: expected the default export to be a config, got a promise`;
    throw new LockstepError('LS_CONFIG_INVALID', message, { fix });
  }
  throw new LockstepError('LS_CONFIG_INVALID', `${shown}: expected a default export, got none`, {
    fix,
  });
}

/** Make a config's paths absolute and put `data` where the trainer looks for it. */
export function resolvePaths(values: ConfigValues, file: string): Config {
  const root = path.dirname(file);
  const absolute = (relative: string): string => path.resolve(root, relative);
  const { training, data, verify, ...rest } = values;
  const validation = data?.validation;
  return {
    ...rest,
    file,
    root,
    model: absolute(values.model),
    out: absolute(values.out),
    data,
    verify: verify?.text === undefined ? verify : { ...verify, text: absolute(verify.text) },
    training:
      training === undefined || data === undefined
        ? undefined
        : {
            ...training,
            data: data.train,
            ...(validation === undefined ? {} : { heldOut: validation }),
            texts: {
              format: data.format,
              field: data.field ?? null,
              loss: data.loss,
              end: data.end ?? null,
              long: data.long,
              pack: data.pack ?? null,
              skipBroken: data.skipBroken,
              cache: data.cache === undefined ? null : absolute(data.cache),
              workers: data.workers,
              recall:
                data.recall === undefined
                  ? null
                  : {
                      share: data.recall.share,
                      lengths: data.recall.lengths ?? [],
                      facts: data.recall.needles,
                    },
              heldOutDocuments: data.validationDocuments,
            },
          },
  };
}

/** The bytes of a policy's module are part of the contract: training settings must not be among them. */
function refuseOwnPolicy(policy: Policy, file: string): void {
  const origin = originOf(policy);
  for (const held of origin?.policies ?? []) refuseOwnPolicy(held, file);
  if (origin?.module !== pathToFileURL(file).href) return;
  throw new LockstepError(
    'LS_POLICY_MODULE',
    `expected the policy ${policy.name} in a file of its own, got it in ${path.basename(file)}`,
    {
      fix: `Move it into its own file next to the config, export it, and import it; otherwise a change of training settings would change the policy.`,
      field: 'policy',
    },
  );
}

async function bundle(file: string): Promise<string> {
  // Commands without a config do not need it.
  const { build } = await import('esbuild');
  try {
    const result = await build({
      entryPoints: [file],
      bundle: true,
      write: false,
      platform: 'node',
      format: 'cjs',
      target: 'node20',
      sourcemap: 'inline',
      sourcesContent: false,
      logLevel: 'silent',
      metafile: true,
      plugins: [configPlugin()],
      outdir: path.dirname(file),
      absWorkingDir: path.dirname(file),
    });
    const names = Object.keys(result.metafile.inputs).map((name) =>
      path.resolve(path.dirname(file), name),
    );
    rememberInputs(
      file,
      names.filter((name) => existsSync(name) && !isOwn(name)),
    );
    return result.outputFiles[0]?.text ?? '';
  } catch (error) {
    const failure = error as BuildFailure;
    const [first] = failure.errors ?? [];
    if (first === undefined) throw error;
    const at = syntaxPlace(first, file);
    const shown = at === undefined ? path.relative(process.cwd(), file) : placeText(at);
    throw notBundled(first.text, shown, { cause: error, place: at });
  }
}

/** Errors of esbuild that are not about syntax get their own code and fix. */
function notBundled(
  text: string,
  shown: string,
  about: Pick<LockstepErrorOptions, 'cause' | 'place'>,
): LockstepError {
  const absent = /^Could not resolve (".+")$/.exec(text)?.[1];
  if (absent !== undefined) {
    return new LockstepError(
      'LS_CONFIG_IMPORT',
      `${shown}: expected an import that can be found, got ${absent}`,
      { fix: 'Correct its path, or install the package where the config is.', ...about },
    );
  }
  const other = /^No loader is configured for ".*" files: (.+)$/.exec(text)?.[1];
  if (other !== undefined) {
    return new LockstepError(
      'LS_CONFIG_IMPORT',
      `${shown}: expected TypeScript, JavaScript or JSON, got ${other}`,
      {
        fix: 'Read other files with readFileSync; a config itself ends in .ts, .js or .mjs.',
        ...about,
      },
    );
  }
  if (text.startsWith('Top-level await')) {
    return new LockstepError(
      'LS_CONFIG_AWAIT',
      `${shown}: expected no await outside of functions, got one`,
      {
        fix: 'Write what is awaited to a file beforehand, and read it with readFileSync.',
        ...about,
      },
    );
  }
  return new LockstepError('LS_CONFIG_SYNTAX', `${shown}: ${text}`, {
    fix: 'Correct the syntax of that file; an editor for TypeScript shows it, too.',
    ...about,
  });
}

function syntaxPlace({ location }: Message, file: string): SourcePlace | undefined {
  if (location === null) return undefined;
  const at = path.resolve(path.dirname(file), location.file);
  const { line, column } = location;
  if (!existsSync(at)) return { file: path.relative(process.cwd(), at), line, column: column + 1 };
  return placeIn(at, readFileSync(at, 'utf8'), line, column + 1);
}

function placeText({ file, line, column }: SourcePlace): string {
  return `${file}:${line}:${column}`;
}

/** Run the bundle in this process (a config is the user's own code) and take its default export. */
function evaluate(code: string, file: string, shown: string): unknown {
  const module: { exports: { default?: unknown } } = { exports: {} };
  rememberConfig(file, code);
  const { exit } = process;
  process.exit = refuseExit;
  try {
    const run = vm.compileFunction(
      code,
      ['module', 'exports', 'require', '__filename', '__dirname'],
      {
        filename: file,
      },
    );
    const require = createRequire(file);
    const start = () => run(module, module.exports, require, file, path.dirname(file));
    withinTime(start, userCodeLimit, shown);
  } catch (error) {
    // A LockstepError of the bundle's own copy of the package: policies check their parameters.
    const { name, code: stable, message, fix } = (error ?? {}) as LockstepError;
    const place = placeInConfig(error);
    const at = place === undefined ? shown : placeText(place);
    if (name === 'LockstepError' && stable?.startsWith('LS_')) {
      throw new LockstepError(stable as `LS_${string}`, `${at}: ${message}`, {
        ...(fix === undefined ? {} : { fix }),
        cause: error,
        place,
      });
    }
    const what = error instanceof Error ? `${name}: ${message}` : inspect(error, oneLine);
    throw new LockstepError('LS_CONFIG_FAILED', `${at}: the config threw ${what}`, {
      fix: 'Correct the line that the message names.',
      cause: error,
      place,
    });
  } finally {
    process.exit = exit;
  }
  return module.exports.default;
}

const oneLine = { depth: 2, breakLength: Number.POSITIVE_INFINITY };

/** For as long as a config runs: an exit would end the command without a word, and with code 0. */
function refuseExit(code?: number | string | null): never {
  throw new LockstepError(
    'LS_CONFIG_FAILED',
    `expected the config to export its value, got process.exit(${code ?? ''})`,
    { fix: 'Remove the call: every command reads the config.' },
  );
}
