// What serve.config.ts may say: the models behind one server, and the server's own options.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { count, positive } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { longestSeconds } from '../longest-times.ts';
import { checkConfigFile, loadDefault } from './load.ts';
import { type ConfigProblem, problemsOf, problemText } from './schema.ts';

const text = z.string().min(1);
const seconds = z.number().nonnegative().max(longestSeconds);
const limit = z.number().positive();

const modelSchema = z.strictObject({
  /** Its name in requests and answers. */
  name: text,
  /** Checkpoint with a contract, relative to this file. */
  dir: text,
  /** Other names that requests may use. */
  aliases: z.array(text).default([]),
  /** What runs it. */
  engine: z.enum(['onnx', 'torch', 'vllm']).default('onnx'),
  /** onnx: fp32, int8, int4; torch: float32, float64, bfloat16; vllm: float32, bfloat16. */
  precision: text.optional(),
  /** onnx, torch: threads of one step. */
  threads: positive.optional(),
  /** Maximum tokens of a sequence, prompt and completion together. */
  maxTokens: positive.optional(),
  /** Maximum generations at once. */
  maxSessions: positive.optional(),
  /** onnx, torch: maximum bytes of cached prompt states; 0 turns the cache off. */
  cacheBytes: count.optional(),
  /** false: serve without checking the probe first. */
  probe: z.boolean().default(true),
  /** torch, vllm: interpreter to use. */
  python: text.optional(),
  /** vllm: number of processes. */
  replicas: positive.optional(),
  /** vllm: use these running servers instead of starting one. */
  upstream: z.array(text).min(1).optional(),
  /** vllm: environment variable that holds their key. */
  upstreamKey: text.optional(),
  /** vllm: abort an answer after this many seconds without data. */
  stallTimeout: limit.max(longestSeconds).optional(),
  /** vllm: folders of LoRA adapters over it, relative to this file, by their names in requests. */
  adapter: z.record(text, text).optional(),
  /** vllm: vLLM's own flags, as ['--max-num-seqs', '64']. */
  flags: z.array(text).default([]),
});

const serverSchema = z.strictObject({
  port: z.int().min(0).max(65_535).optional(),
  /** Address to listen on; 0.0.0.0 opens it to the network. */
  host: text.optional(),
  /** More host names to accept on loopback. */
  allowHost: z.array(text).optional(),
  /** Maximum requests in the queue of each model. */
  maxQueue: count.optional(),
  /** Maximum generations at once of one key, in each model. */
  maxPerKey: positive.optional(),
  /** Maximum tokens of an answer. */
  maxCompletion: positive.optional(),
  /** Maximum messages of a conversation. */
  maxMessages: positive.optional(),
  /** Seconds in the queue after which a request gets 503. */
  queueTimeout: limit.optional(),
  /** Seconds after which a request is stopped. */
  requestTimeout: limit.optional(),
  /** Threads that read large requests. */
  largeRequestThreads: positive.optional(),
  /** Maximum large requests that wait for one. */
  maxQueuedLargeRequests: count.optional(),
  /** Environment variable that holds the one key that clients must send. */
  apiKey: text.optional(),
  /** Keys of clients, with limits; relative to this file. */
  keys: text.optional(),
  /** File for one JSON line for each request; relative to this file. */
  audit: text.optional(),
  /** Folder for files of batches; relative to this file. */
  batches: text.optional(),
  /** Maximum bytes of files of batches. */
  batchBytes: positive.optional(),
  /** Maximum requests of batches at once. */
  batchSlots: positive.optional(),
  /** Requests per minute from one key or address; 'off' sets no limit. */
  rate: z.union([positive, z.literal('off')]).optional(),
  /** Proxies whose X-Forwarded-For says who the client is. */
  trustProxy: z.array(text).optional(),
  /** Certificate chain in PEM; relative to this file. */
  tlsCert: text.optional(),
  /** Its private key in PEM; relative to this file. */
  tlsKey: text.optional(),
  /** Seconds to listen on at the end while /health/ready says 503. */
  preDrain: seconds.optional(),
  /** Seconds that running answers then have to finish. */
  drain: seconds.optional(),
  /** End with exit code 1 when the onnx and torch engines of all models have ended. */
  exitWhenLost: z.boolean().optional(),
  /** Where OpenTelemetry traces go, as http://127.0.0.1:4318/v1/traces. */
  otlpTracesEndpoint: text.optional(),
  log: z.enum(['silent', 'error', 'info']).optional(),
});

const serveSchema = z.strictObject({
  models: z.array(modelSchema).min(1),
  ...serverSchema.shape,
});

/** A serve.config.ts as a user writes it. */
export type ServeInput = z.input<typeof serveSchema>;
/** One model of it. */
export type ServeModel = z.output<typeof modelSchema>;
/** Options of the server itself. */
export type ServeServer = z.output<typeof serverSchema>;

export interface ServeConfig {
  /** The file, as errors name it. */
  shown: string;
  models: ServeModel[];
  server: ServeServer;
}

/**
 * Load and check a serve.config.ts (.js, .mjs, .json); its paths become absolute.
 *
 * @throws LS_SERVE_CONFIG, LS_SERVE_NAMES, LS_CONFIG_MISSING, LS_CONFIG_IMPORT, LS_CONFIG_SYNTAX, LS_CONFIG_FAILED (it threw), LS_CONFIG_INVALID
 */
export async function loadServe(file: string): Promise<ServeConfig> {
  const absolute = path.resolve(file);
  const shown = path.relative(process.cwd(), absolute) || absolute;
  checkConfigFile(file, 'Name an existing file: lockstep serve --config serve.config.ts');
  const value = absolute.endsWith('.json')
    ? await readJson(absolute, shown)
    : await loadDefault(absolute, shown, 'defineServe({...})');
  const { models, ...server } = checkServe(value, shown);
  const from = (relative: string) => path.resolve(path.dirname(absolute), relative);
  for (const field of ['keys', 'audit', 'batches', 'tlsCert', 'tlsKey'] as const) {
    if (server[field] !== undefined) server[field] = from(server[field]);
  }
  const placed = ({ adapter, ...model }: ServeModel): ServeModel => ({
    ...model,
    dir: from(model.dir),
    ...(adapter && {
      adapter: Object.fromEntries(Object.entries(adapter).map(([name, dir]) => [name, from(dir)])),
    }),
  });
  return { shown, server, models: models.map(placed) };
}

/** @throws LS_SERVE_CONFIG with every problem, LS_SERVE_NAMES */
export function checkServe(value: unknown, shown: string): z.output<typeof serveSchema> {
  const result = serveSchema.safeParse(value);
  if (!result.success) {
    throw invalid(shown, problemsOf(result.error.issues, value, serveSchema));
  }
  checkNames(result.data.models, shown);
  return result.data;
}

/** Every name and alias means one model. @throws LS_SERVE_NAMES */
function checkNames(models: readonly ServeModel[], shown: string): void {
  const places = new Map<string, string>();
  models.forEach(({ name, aliases, adapter = {} }, i) => {
    const named: [string, string][] = [
      [`models[${i}].name`, name],
      ...aliases.map((alias, j): [string, string] => [`models[${i}].aliases[${j}]`, alias]),
      ...Object.keys(adapter).map((one): [string, string] => [`models[${i}].adapter`, one]),
    ];
    for (const [place, one] of named) {
      const other = places.get(one);
      if (other !== undefined) {
        throw new LockstepError(
          'LS_SERVE_NAMES',
          `${shown}: ${place}: expected a name or an alias of one model only, got ${JSON.stringify(one)}, which ${other} also has`,
          { fix: 'Give each model names of its own.', field: place },
        );
      }
      places.set(one, place);
    }
  });
}

function invalid(shown: string, problems: readonly ConfigProblem[]): LockstepError {
  const field = problems[0]?.path;
  return new LockstepError('LS_SERVE_CONFIG', problemText(shown, problems), {
    fix: 'Correct the named fields; docs/serve-config.md lists them all.',
    ...(field === undefined ? {} : { field }),
  });
}

async function readJson(file: string, shown: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new LockstepError('LS_CONFIG_SYNTAX', `${shown}: ${(cause as Error).message}`, {
      fix: 'Correct the JSON of that file.',
      cause,
    });
  }
}
