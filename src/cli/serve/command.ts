// lockstep serve: serves a checkpoint through OpenAI's HTTP API, with a web page.
import path from 'node:path';
import { Command, Option } from 'commander';
import { type Logger, pino } from 'pino';
import { readContract } from '../../checkpoint/index.ts';
import { isTrained } from '../../contract/index.ts';
import type { ProbeOutcome } from '../../engines/probe.ts';
import { LockstepError } from '../../errors.ts';
import { CACHE_BYTES, createServer, type LockstepServer, probePort } from '../../server/index.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { natural, port, positive } from '../shared/option-values.ts';
import { asLockstepError, type Paint, paint, printWarning } from '../shared/output.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import { addBoundOptions, type BoundOptions, boundsFrom } from './bounds.ts';
import { addDoorOptions, type DoorOptions, openDoors } from './doors.ts';
import { checkChoice, type EngineChoice, openChosen } from './engine.ts';

interface ServeOptions extends EngineChoice, DoorOptions, BoundOptions {
  host: string;
  port: number;
  model?: string;
  maxQueue: number;
  allowHost?: string[];
  otlpTracesEndpoint?: string;
  json?: true;
}

export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a checkpoint through OpenAI’s HTTP API, with a web page')
    .argument('<dir>', 'checkpoint with a contract (lockstep attach, lockstep train)')
    .argument(
      '[flags...]',
      'vllm: its own flags, after --: lockstep serve DIR -- --max-num-seqs 64',
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
    .option('--threads <n>', 'threads of one step', positive)
    .option(
      '--max-tokens <n>',
      "maximum tokens of a sequence, prompt and completion together (default: 32768; vllm: the model's)",
      positive,
    )
    .option(
      '--max-sessions <n>',
      'maximum generations at once (default: 8; vllm: 256 for each replica)',
      positive,
    )
    .option(
      '--cache-bytes <n>',
      `onnx, torch: maximum bytes of remembered prompts, so that the next turn of a chat does not run the earlier ones again; 0 turns it off (default: ${CACHE_BYTES})`,
      natural,
    )
    .option('--max-queue <n>', 'maximum requests in the queue', natural, 64);
  return addBoundOptions(addDoorOptions(command))
    .option('--allow-host <name...>', 'more host names to accept on loopback')
    .option('--replicas <n>', 'vllm: number of processes', positive)
    .option('--upstream <url...>', 'vllm: use these running servers instead of starting one')
    .option(
      '--adapter <name=dir...>',
      'vllm: LoRA adapters over the model; requests choose one by its name',
    )
    .option('--upstream-key <variable>', 'vllm: environment variable that holds their key')
    .option('--no-probe', 'serve without checking the probe first')
    .option('--python <path>', 'torch, vllm: interpreter to use')
    .addOption(noWeightsCheck())
    .option(
      '--otlp-traces-endpoint <url>',
      'send OpenTelemetry traces there, as http://127.0.0.1:4318/v1/traces',
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
  dir: string,
  flags: readonly string[],
  options: ServeOptions,
): Promise<void> {
  const stop = stopSignal();
  const colors = paint(process.stderr);
  const say = (line: string): void => {
    if (options.json !== true) process.stderr.write(`${line}\n`);
  };
  await checkChoice(options, flags);
  const traces = tracesUrl(options.otlpTracesEndpoint);
  const doors = await openDoors(options, say);
  await probePort(options.port, options.host);
  const files = await readContract(dir);
  const { contract } = files;
  const model = options.model ?? path.basename(path.resolve(dir));
  say(
    `${colors.bold(model)}  ${contract.policy.name}, S ${contract.segment.max}, M ${contract.carry.size}, A ${contract.carry.sinks}, R ${contract.retrieval.size}  ${colors.dim(contract.digest)}`,
  );
  if (!isTrained(contract)) {
    const why =
      contract.carry.sinks > 0
        ? `its ${contract.carry.sinks} sinks make it usable; training brings it closer to full attention`
        : 'it has no sinks either and will write badly; set carry.sinks, or train it';
    say(`${colors.yellow('untrained')} under this contract: ${why}`);
  }
  const tokenizer = await loadTokenizer(dir);
  say(`opening the ${options.engine} engine …`);
  const since = performance.now();
  const parts = { dir, source: files, tokenizer, model };
  const opened = await openChosen(parts, options, flags, say, stop.signal);
  const { engine } = opened;
  const seconds = ((performance.now() - since) / 1000).toFixed(1);
  const { name, precision, layers } = engine.info;
  say(
    options.upstream === undefined
      ? `${name} ${precision}, ${layers} layers, ready after ${seconds} s`
      : `asking ${options.upstream.join(', ')} every few seconds; /health/ready says when it serves`,
  );
  let server: LockstepServer | undefined;
  const log = logger(options.log);
  try {
    server = createServer({
      engine,
      tokenizer,
      contract: files,
      options: {
        model,
        host: options.host,
        maxTokens: opened.maxTokens,
        maxSessions: opened.maxSessions,
        ...(options.cacheBytes === undefined ? {} : { cacheBytes: options.cacheBytes }),
        maxQueue: options.maxQueue,
        ...doors.server,
        ...boundsFrom(options),
        hostNames: options.allowHost ?? [],
        log,
        // Loaded when asked for: a server without traces does not wait for the packages.
        ...(traces === null ? {} : { traces: await openTraces(traces, log) }),
        warn: (error) => {
          const { code, message } = asLockstepError(error);
          printWarning({ code, message: `${message}; chats are refused, completions are served` });
        },
        ...(opened.probe === null ? {} : { probe: opened.probe }),
        adapters: opened.adapters ?? [],
      },
    });
    if (stop.asked) return;
    const { url } = await server.listen(options.port);
    doors.follow(server);
    announce(url, model, contract.digest, opened.probe, options, doors.locked, say, colors);
    const lost = await Promise.race([stop.promise, opened.failed]);
    if (lost !== undefined) throw lost;
    say('stopping: running answers may finish; Ctrl-C again ends at once');
  } finally {
    await (server ?? engine).close();
    doors.close();
    stop.off();
  }
}

function announce(
  url: string,
  model: string,
  digest: string,
  probe: ProbeOutcome | null,
  options: ServeOptions,
  locked: boolean,
  say: (line: string) => void,
  colors: Paint,
): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ event: 'ready', url, model, digest, probe })}\n`);
  }
  if (!locked && !['127.0.0.1', 'localhost', '::1'].includes(options.host)) {
    say(
      `${colors.yellow('open')}: everyone who reaches ${options.host} may use it; see --keys and --api-key`,
    );
  }
  say(
    `${colors.green('serving')}  page ${colors.bold(`${url}/`)}   API ${url}/v1   metrics ${url}/metrics`,
  );
  say(colors.dim('Ctrl-C stops it'));
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
    mend: 'As in: --otlp-traces-endpoint http://127.0.0.1:4318/v1/traces',
    field: 'otlp-traces-endpoint',
  });
}

function logger(level: ServeOptions['log']): Logger {
  return pino({ level, base: null }, pino.destination(2));
}

/** The first SIGINT or SIGTERM asks to stop, the second ends the process at once. */
function stopSignal(): {
  readonly asked: boolean;
  signal: AbortSignal;
  promise: Promise<void>;
  off: () => void;
} {
  const stopping = new AbortController();
  const { signal } = stopping;
  const promise = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  const ask = (): void => {
    if (signal.aborted) process.exit(130);
    stopping.abort(new LockstepError('LS_CANCELLED', 'cancelled.'));
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  return {
    get asked() {
      return signal.aborted;
    },
    signal,
    promise,
    off: () => {
      process.off('SIGINT', ask);
      process.off('SIGTERM', ask);
    },
  };
}
