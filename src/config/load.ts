// lockstep.config.ts to a validated config: bundled by esbuild, run once, checked against the schema.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { type BuildFailure, build, type Message } from 'esbuild';
import { placeIn } from '../code-frame.ts';
import { userCodeLimit, withinTime } from '../contract/time-limit.ts';
import { LockstepError, type SourcePlace } from '../errors.ts';
import { originOf, type Policy } from '../policies/policy.ts';
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
 * @throws LS_CONFIG_MISSING, LS_CONFIG_SYNTAX, LS_CONFIG_FAILED (it threw), LS_CONFIG_INVALID
 */
export async function loadConfig(file: string = defaultConfigFile): Promise<Config> {
  const absolute = path.resolve(file);
  if (!existsSync(absolute)) {
    throw new LockstepError('LS_CONFIG_MISSING', `expected a config file, got none at ${file}`, {
      fix: `Create it with lockstep init, or name another one with --config.`,
    });
  }
  const shown = path.relative(process.cwd(), absolute) || absolute;
  const value = await loadDefault(absolute, shown, 'defineConfig({...})');
  const values = parseConfig(value, shown);
  refuseOwnPolicy(values.policy, absolute);
  return resolvePaths(values, absolute);
}

/**
 * What a config's module exports by default.
 *
 * @param shown the file, as errors name it
 * @param call what the file is to export
 * @throws LS_CONFIG_SYNTAX, LS_CONFIG_FAILED (it threw), LS_CONFIG_INVALID (it exports nothing)
 */
export async function loadDefault(file: string, shown: string, call: string): Promise<unknown> {
  const value = evaluate(await bundle(file), file, shown);
  if (value !== undefined) return value;
  throw new LockstepError('LS_CONFIG_INVALID', `${shown}: expected a default export, got none`, {
    fix: `Write \`export default ${call}\`.`,
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
                  : { ...data.recall, lengths: data.recall.lengths ?? [] },
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
    throw new LockstepError('LS_CONFIG_SYNTAX', `${shown}: ${first.text}`, {
      fix: 'Correct the syntax of that file; an editor for TypeScript shows it, too.',
      cause: error,
      place: at,
    });
  }
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
    withinTime(start, userCodeLimit);
  } catch (error) {
    // A LockstepError of the bundle's own copy of the package: policies check their parameters.
    const { name, code: stable, message, fix } = error as LockstepError;
    const place = placeInConfig(error);
    const at = place === undefined ? shown : placeText(place);
    if (name === 'LockstepError' && stable?.startsWith('LS_')) {
      throw new LockstepError(stable as `LS_${string}`, `${at}: ${message}`, {
        ...(fix === undefined ? {} : { fix }),
        cause: error,
        place,
      });
    }
    const what = error instanceof Error ? `${name}: ${message}` : JSON.stringify(error);
    throw new LockstepError('LS_CONFIG_FAILED', `${at}: the config threw ${what}`, {
      fix: 'Correct the line that the message names.',
      cause: error,
      place,
    });
  }
  return module.exports.default;
}
