// lockstep serve: serves one checkpoint, or several, through OpenAI's HTTP API, with a web page.
import path from 'node:path';
import { Command, Option } from 'commander';
import { type Logger, pino } from 'pino';
import type { ServeConfig } from '../../config/index.ts';
import { LockstepError } from '../../errors.ts';
import {
  CACHE_BYTES,
  createServer,
  LOOPBACK,
  probePort,
  type ServerOptions,
} from '../../server/index.ts';
import { needs } from '../shared/needs.ts';
import {
  parseNonNegativeInt,
  parsePositiveInt,
  parsePositiveSeconds,
  port,
} from '../shared/option-values.ts';
import {
  asLockstepError,
  cancellation,
  type Paint,
  paint,
  printWarning,
} from '../shared/output.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import { type AccessOptions, addAccessOptions, openAccess } from './access.ts';
import { addBatchOptions, type BatchOptions, openBatchStore } from './batches.ts';
import { addBoundOptions, type BoundOptions, boundsFrom } from './bounds.ts';
import { checkChoice, type EngineChoice } from './engine.ts';
import type { ModelEntry, OpenedModel } from './entry.ts';
import { type Change, Fleet } from './fleet.ts';
import { changedServer, entriesOf, mergeServer } from './from-file.ts';

interface ServeOptions extends EngineChoice, AccessOptions, BoundOptions, BatchOptions {
  host: string;
  port: number;
  model?: string;
  config?: string;
  maxQueue: number;
  allowHost?: string[];
  otlpTracesEndpoint?: string;
  json?: true;
}

export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a checkpoint through OpenAI’s HTTP API, with a web page')
    .argument('[dir]', 'checkpoint with a contract (lockstep attach, lockstep train)')
    .argument(
      '[flags...]',
      'vllm: vLLM’s own flags, after --: lockstep serve DIR -- --max-num-seqs 64',
    )
    .option(
      '--config <file>',
      'serve.config.ts: several models, and options of the server; SIGHUP reloads it',
    )
    .addOption(
      new Option('--engine <name>', 'what runs the model')
        .choices(['onnx', 'torch', 'vllm'])
        .default('onnx'),
    )
    .option('--port <n>', 'port to listen on; 0 takes any free one', port, 8080)
    .option(
      '--host <address>',
      'address to listen on; 0.0.0.0 opens it to the network',
      '127.0.0.1',
    )
    .option('--model <name>', "the model's name in requests (default: the folder's)")
    .option(
      '--precision <name>',
      'onnx: fp32, int8, int4; torch: float32, float64, bfloat16; vllm: float32, bfloat16',
    )
    .option('--threads <n>', 'threads of one step', parsePositiveInt)
    .option(
      '--max-tokens <n>',
      "maximum tokens of a sequence, prompt and completion together (default: 32768; vllm: the model's)",
      parsePositiveInt,
    )
    .option(
      '--max-sessions <n>',
      'maximum generations at once (default: 8; vllm: 256 for each replica)',
      parsePositiveInt,
    )
    .option(
      '--cache-bytes <n>',
      `onnx, torch: maximum bytes of cached prompt states, so that the next turn of a chat does not compute the earlier ones again; 0 turns the cache off (default: ${CACHE_BYTES})`,
      parseNonNegativeInt,
    )
    .option('--max-queue <n>', 'maximum requests in the queue', parseNonNegativeInt, 64);
  return addBatchOptions(addBoundOptions(addAccessOptions(command)))
    .option('--allow-host <name...>', 'more host names to accept on loopback')
    .option('--replicas <n>', 'vllm: number of processes', parsePositiveInt)
    .option('--upstream <url...>', 'vllm: use these running servers instead of starting one')
    .option(
      '--adapter <name=dir...>',
      'vllm: LoRA adapters over the model; requests choose one by its name',
    )
    .option('--upstream-key <variable>', 'vllm: environment variable that holds their key')
    .option(
      '--stall-timeout <s>',
      'vllm: abort an answer after this many seconds without data (default: 600)',
      parsePositiveSeconds,
    )
    .option('--no-probe', 'serve without checking the probe first')
    .option('--python <path>', 'torch, vllm: interpreter to use')
    .addOption(noWeightsCheck())
    .option(
      '--otlp-traces-endpoint <url>',
      'address to send OpenTelemetry traces to, such as http://127.0.0.1:4318/v1/traces',
    )
    .addOption(
      new Option('--log <level>', 'log level: JSON lines on stderr, without prompts and answers')
        .choices(['silent', 'error', 'info'])
        .default('error'),
    )
    .option('--json', 'print one JSON object on stdout when it is ready')
    .action(runServe);
}

async function runServe(
  dir: string | undefined,
  flags: readonly string[],
  options: ServeOptions,
  command: Command,
): Promise<void> {
  const stop = stopSignal();
  try {
    await serveUntil(stop, dir, flags, options, command);
  } finally {
    stop.off();
  }
}

async function serveUntil(
  stop: StopSignal,
  dir: string | undefined,
  flags: readonly string[],
  options: ServeOptions,
  command: Command,
): Promise<void> {
  const colors = paint(process.stderr);
  const say = (line: string): void => {
    if (options.json !== true) process.stderr.write(`${line}\n`);
  };
  const file = await fileOf(dir, options, command);
  const entries =
    file === null ? [await entryOf(dir ?? '', flags, options)] : await entriesOf(file, options.log);
  checkEffect(options, entries);
  const traces = tracesUrl(options.otlpTracesEndpoint);
  const access = await openAccess(options, say, file !== null);
  const context = { say, colors, signal: stop.signal };
  const fleet = new Fleet(context, options.exitWhenLost);
  let batches: ServerOptions = {};
  let begun = false;
  try {
    await probePort(options.port, options.host);
    batches = await openBatchStore(options);
    await fleet.open(entries);
    const log = logger(options.log);
    const server = createServer({
      models: fleet.parts,
      options: {
        host: options.host,
        maxQueue: options.maxQueue,
        ...access.server,
        ...boundsFrom(options),
        ...batches,
        hostNames: options.allowHost ?? [],
        log,
        // Loaded when asked for: a server without traces does not wait for the packages.
        ...(traces === null ? {} : { traces: await openTraces(traces, log) }),
        warn: (error, model) => {
          const { code, message } = asLockstepError(error);
          const words = 'chats are refused, completions are served';
          printWarning({ code, message: `${model}: ${message}; ${words}` });
        },
      },
    });
    begun = true;
    fleet.follow(server);
    if (stop.asked) return;
    const { url } = await server.listen(options.port);
    access.follow(server, file && (() => readAgain(file, fleet, options, say)));
    announce(url, fleet.opened, options, access.needsKey, say, colors);
    const lost = await Promise.race([stop.promise, fleet.lost]);
    if (lost !== undefined) throw lost;
    say('stopping: running answers may finish; Ctrl-C again ends at once');
  } finally {
    await fleet.close();
    if (!begun) await batches.batches?.close();
    access.close();
  }
}

/** The file of `--config`, its server's options put into `options`; null without it. @throws LS_USAGE */
async function fileOf(
  dir: string | undefined,
  options: ServeOptions,
  command: Command,
): Promise<ServeConfig | null> {
  if ((dir === undefined) === (options.config === undefined)) {
    const got = dir === undefined ? 'neither' : 'both';
    throw new LockstepError('LS_USAGE', `expected a checkpoint or --config, got ${got}`, {
      fix: 'lockstep serve DIR serves one model, lockstep serve --config serve.config.ts several.',
      field: 'config',
    });
  }
  if (options.config === undefined) return null;
  const file = await load(options.config);
  mergeServer(command, options, file);
  return file;
}

/** @throws LS_USAGE for options of the server that would change nothing */
function checkEffect(
  { allowHost, host, maxPerKey, keys, exitWhenLost }: ServeOptions,
  entries: readonly ModelEntry[],
): void {
  const odd = allowHost?.find(
    (name) => !/^([a-z0-9._-]+|\[?[0-9a-f:]*:[0-9a-f:.]+\]?)$/i.test(name),
  );
  if (odd !== undefined) {
    const words = `expected names of hosts with --allow-host, got ${odd === '' ? 'an empty text' : odd}`;
    throw new LockstepError('LS_USAGE', words, {
      fix: 'A name has no scheme and no port: --allow-host box.example',
      field: 'allow-host',
    });
  }
  if (allowHost !== undefined && !LOOPBACK.includes(host)) {
    throw needs('allow-host', `--host ${LOOPBACK.join(' or ')}`, `${host}, which takes every name`);
  }
  if (maxPerKey !== undefined && keys === undefined) throw needs('max-per-key', '--keys', 'none');
  if (exitWhenLost && entries.every(({ choice }) => choice.engine === 'vllm')) {
    throw needs('exit-when-lost', 'the engine onnx or torch', 'vllm');
  }
}

/** The bundler is loaded when it is needed: one model starts without it. */
async function load(file: string): Promise<ServeConfig> {
  const { loadServe } = await import('../../config/serve.ts');
  return loadServe(file);
}

/** The one model of the command line. */
async function entryOf(
  dir: string,
  flags: readonly string[],
  options: ServeOptions,
): Promise<ModelEntry> {
  await checkChoice(options, flags);
  const name = options.model ?? path.basename(path.resolve(dir));
  return { name, dir, aliases: [], choice: options, flags, location: null };
}

/** Serve what the file says now. @returns what the audit log is to say */
async function readAgain(
  before: ServeConfig,
  fleet: Fleet,
  options: ServeOptions,
  say: (line: string) => void,
): Promise<Change> {
  const file = await load(options.config ?? '');
  const entries = await entriesOf(file, options.log);
  const changed = changedServer(before.server, file.server);
  if (changed.length > 0) {
    const message = `${file.shown}: ${changed.join(', ')}: changed since startup; restart the server to apply it`;
    printWarning({ code: 'LS_SERVE_RESTART', message });
  }
  const change = await fleet.replace(entries, say);
  const { models, added, replaced, removed } = change;
  say(
    `models: ${models.length} (${added.length} added, ${replaced.length} replaced, ${removed.length} removed)`,
  );
  if (options.json) {
    const told = { event: 'models', ...change, models: fleet.opened.map(modelEvent) };
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
  return change;
}

function modelEvent({ parts, digest }: OpenedModel): object {
  return { model: parts.name, digest, probe: parts.probe ?? null };
}

function announce(
  url: string,
  opened: readonly OpenedModel[],
  options: ServeOptions,
  needsKey: boolean,
  say: (line: string) => void,
  colors: Paint,
): void {
  if (options.json) {
    const models = opened.map(modelEvent);
    process.stdout.write(`${JSON.stringify({ event: 'ready', url, ...models[0], models })}\n`);
  }
  if (!needsKey && !LOOPBACK.includes(options.host)) {
    say(
      `${colors.yellow('open')}: everyone who reaches ${options.host} may use it; see --keys and --api-key`,
    );
  }
  say(
    `${colors.green('serving')}  page ${colors.bold(`${url}/`)}   API ${url}/v1   metrics ${url}/metrics`,
  );
  say(
    colors.dim(
      options.config === undefined
        ? 'Ctrl-C stops it'
        : 'SIGHUP reads the file again; Ctrl-C stops it',
    ),
  );
}

async function openTraces(endpoint: string, log: Logger) {
  const { Traces } = await import('../../server/traces.ts');
  return new Traces(endpoint, log);
}

/** @throws LS_USAGE for anything but an address of the web */
function tracesUrl(text: string | undefined): string | null {
  if (text === undefined) return null;
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new LockstepError('LS_USAGE', `expected an address for traces, got ${text}`, {
    fix: 'As in: --otlp-traces-endpoint http://127.0.0.1:4318/v1/traces',
    field: 'otlp-traces-endpoint',
  });
}

function logger(level: ServeOptions['log']): Logger {
  return pino({ level, base: null }, pino.destination(2));
}

interface StopSignal {
  readonly asked: boolean;
  signal: AbortSignal;
  promise: Promise<void>;
  off(): void;
}

/** The first SIGINT or SIGTERM asks to stop, the second ends the process at once. */
function stopSignal(): StopSignal {
  const { signal, stop } = cancellation();
  const promise = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  return {
    get asked() {
      return signal.aborted;
    },
    signal,
    promise,
    off: stop,
  };
}
