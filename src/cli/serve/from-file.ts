// `--config`: the models and the server's options of a file, as the command line would give them.
import type { Command } from 'commander';
import type { ServeConfig, ServeModel, ServeServer } from '../../config/index.ts';
import { LockstepError } from '../../errors.ts';
import { asLockstepError } from '../shared/output.ts';
import { checkChoice, type EngineChoice } from './engine.ts';
import type { ModelEntry } from './entry.ts';
import { usage } from './usage.ts';

/** Options that belong to a model: with a file, each model has its own there. */
const OF_MODELS = [
  ['engine', 'engine'],
  ['model', 'name'],
  ['precision', 'precision'],
  ['threads', 'threads'],
  ['maxTokens', 'maxTokens'],
  ['maxSessions', 'maxSessions'],
  ['cacheBytes', 'cacheBytes'],
  ['replicas', 'replicas'],
  ['upstream', 'upstream'],
  ['upstreamKey', 'upstreamKey'],
  ['stallTimeout', 'stallTimeout'],
  ['adapter', 'adapter'],
  ['probe', 'probe'],
  ['python', 'python'],
] as const;

/**
 * The models of a serve.config.ts, their options judged before anything is opened.
 *
 * @param log the log level of the server, which was set at the start
 * @throws LS_SERVE_OPTION, LS_VLLM_FLAG
 */
export async function entriesOf(
  config: ServeConfig,
  log: EngineChoice['log'],
): Promise<ModelEntry[]> {
  const entries = config.models.map((model, i) => entryOf(model, i, config, log));
  for (const { location, choice, flags } of entries) {
    await checkChoice(choice, flags).catch((error: unknown) => {
      throw atLocation(error, location ?? '');
    });
  }
  return entries;
}

function entryOf(
  { name, dir, aliases, flags, adapter, ...options }: ServeModel,
  index: number,
  { shown }: ServeConfig,
  log: EngineChoice['log'],
): ModelEntry {
  // An option that is absent is absent on the command line, too.
  const given = Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined));
  const named = adapter && Object.entries(adapter).map(([name, dir]) => `${name}=${dir}`);
  const choice = {
    ...given,
    ...(named === undefined ? {} : { adapter: named }),
    log,
  } as EngineChoice;
  return { name, dir, aliases, flags, choice, location: `${shown}: models[${index}]` };
}

/** The error with the location of the entry that caused it; names of options as the file writes them. */
export function atLocation(error: unknown, location: string): LockstepError {
  const { code, message, fix, field } = asLockstepError(error);
  if (code !== 'LS_USAGE') {
    return new LockstepError(code as `LS_${string}`, `${location}: ${message}`, {
      cause: error,
      ...(fix === undefined ? {} : { fix }),
      ...(field === undefined ? {} : { field }),
    });
  }
  const name = camel(field ?? '');
  const words = message.replace(/--([a-z][a-z-]*)/g, (_, option: string) => camel(option));
  return new LockstepError('LS_SERVE_OPTION', `${location}.${name}: ${words}`, {
    fix: fix ?? 'Leave the option out.',
    field: name,
    cause: error,
  });
}

/**
 * Put the server's options of a file where those of the command line are.
 *
 * @throws LS_USAGE for an option that both give, or that belongs to a model
 */
export function mergeServer(
  command: Command,
  options: object,
  { shown, server }: ServeConfig,
): void {
  const onLine = (name: string) => command.getOptionValueSource(name) === 'cli';
  for (const [name, field] of OF_MODELS) {
    if (!onLine(name)) continue;
    const fix = `Set \`${field}\` of a model in ${shown}.`;
    throw usage(dashed(name), `expected no ${flagOf(command, name)} with --config`, fix);
  }
  for (const name of Object.keys(server) as (keyof ServeServer)[]) {
    if (server[name] === undefined) continue;
    if (onLine(name)) {
      const words = `expected ${flagOf(command, name)} or \`${name}\` in ${shown}, got both`;
      throw usage(dashed(name), words, 'Leave one of them out.');
    }
    Object.assign(options, { [name]: server[name] });
  }
}

/** Options of the server that are others than at the start: they hold from the next start on. */
export function changedServer(before: ServeServer, now: ServeServer): string[] {
  const names = [
    ...new Set([...Object.keys(before), ...Object.keys(now)]),
  ] as (keyof ServeServer)[];
  return names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(now[name]));
}

function flagOf(command: Command, name: string): string {
  return command.options.find((one) => one.attributeName() === name)?.long ?? `--${dashed(name)}`;
}

function camel(name: string): string {
  return name.replace(/^no-/, '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function dashed(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
