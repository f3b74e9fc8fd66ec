// Which engine `lockstep serve` opens, and which of its options fit that engine.
import { findPython } from '../../bridge/index.ts';
import { checkWeights } from '../../checkpoint/index.ts';
import type { Engine } from '../../engines/engine.ts';
import { notRun, type ProbeOutcome, probeLine, readProbe, runProbe } from '../../engines/probe.ts';
import type { Runner } from '../../engines/runner.ts';
import { precisions } from '../../engines/vllm/flags.ts';
import type { Relay, VllmParts } from '../../engines/vllm/index.ts';
import type { LockstepError } from '../../errors.ts';
import { usage } from './usage.ts';

export interface EngineChoice {
  engine: 'onnx' | 'torch' | 'vllm';
  precision?: string;
  threads?: number;
  maxTokens?: number;
  maxSessions?: number;
  /** Most bytes of the prefix cache of onnx or torch. */
  cacheBytes?: number;
  python?: string;
  replicas?: number;
  upstream?: string[];
  upstreamKey?: string;
  /** Seconds without a byte after which an answer of vLLM is given up. */
  stallTimeout?: number;
  /** `NAME=DIR` of each adapter. */
  adapter?: string[];
  /** false: `--no-probe`. */
  probe: boolean;
  log: 'silent' | 'error' | 'info';
}

export interface Opened {
  engine: Engine | Runner;
  maxTokens: number;
  maxSessions: number;
  /** What became of the checkpoint's probe; null where that is not known yet. */
  probe: ProbeOutcome | null;
  /** Adapters over the model, by the names in requests. */
  adapters?: { name: string; runner: Runner }[];
  /** Settles with the reason when nothing can be served any more. */
  failed: Promise<LockstepError>;
  /** Settles with the reason when an engine has ended that nobody starts again (onnx, torch). */
  lost: Promise<LockstepError>;
}

const PRECISIONS = {
  onnx: ['fp32', 'int8', 'int4'],
  torch: ['float32', 'float64', 'bfloat16'],
  vllm: precisions,
} as const;

/** As many sequences as vLLM runs at once by default. */
const VLLM_SESSIONS = 256;

/**
 * Judge options before anything is opened.
 *
 * @param flags the arguments after `--`
 * @throws LS_USAGE for options that say nothing to the chosen engine; LS_VLLM_FLAG, LS_VLLM_UPSTREAM, LS_ADAPTER_NAME
 */
export async function checkChoice(choice: EngineChoice, flags: readonly string[]): Promise<void> {
  const { engine, precision } = choice;
  const known: readonly string[] = PRECISIONS[engine];
  if (precision !== undefined && !known.includes(precision)) {
    throw usage(
      'precision',
      `expected --precision ${known.join(', ').replace(/, (?=[^,]*$)/, ' or ')}, got ${precision}`,
      'Each engine has its own precisions: lockstep serve --help',
    );
  }
  if (engine === 'vllm') await checkVllm(choice, flags);
  else checkEmbedded(choice, flags);
}

function checkEmbedded(choice: EngineChoice, flags: readonly string[]): void {
  for (const [name, value] of [
    ['replicas', choice.replicas],
    ['upstream', choice.upstream],
    ['upstream-key', choice.upstreamKey],
    ['stall-timeout', choice.stallTimeout],
    ['adapter', choice.adapter],
  ] as const) {
    if (value !== undefined) throw onlyVllm(`--${name}`, name);
  }
  if (flags.length > 0) throw onlyVllm(flags[0] as string, 'flags');
  if (choice.engine === 'onnx' && choice.python !== undefined) {
    const fix = 'ONNX Runtime runs without Python. Leave the option out.';
    throw usage('python', 'expected --engine torch or vllm with --python, got onnx', fix);
  }
}

async function checkVllm(choice: EngineChoice, flags: readonly string[]): Promise<void> {
  if (choice.cacheBytes !== undefined) {
    const fix =
      'vLLM has a prefix cache of its own: lockstep serve DIR --engine vllm -- --no-enable-prefix-caching turns it off.';
    throw usage('cache-bytes', 'expected no --cache-bytes with --engine vllm', fix);
  }
  const { adapterFolders, checkFlags, upstreamOrigin } = await import(
    '../../engines/vllm/index.ts'
  );
  if (choice.threads !== undefined) {
    const fix = 'vLLM takes them from OMP_NUM_THREADS or VLLM_CPU_OMP_THREADS_BIND.';
    throw usage('threads', 'expected no --threads with --engine vllm', fix);
  }
  adapterFolders(choice.adapter ?? []);
  const { upstream } = choice;
  if (upstream === undefined) {
    if (choice.upstreamKey !== undefined) {
      throw usage('upstream-key', 'expected --upstream with --upstream-key', 'Name its address.');
    }
    checkFlags(flags);
    return;
  }
  checkUpstream(choice, flags);
  for (const url of upstream) upstreamOrigin(url);
  upstreamKeyOf(choice);
}

/** What only a vLLM that is started here can be told. */
function checkUpstream(choice: EngineChoice, flags: readonly string[]): void {
  for (const [name, value] of [
    ['replicas', choice.replicas],
    ['python', choice.python],
    ['precision', choice.precision],
  ] as const) {
    if (value === undefined) continue;
    const fix = 'This server did not start the vLLM of --upstream. Leave the option out.';
    throw usage(name, `expected no --${name} with --upstream`, fix);
  }
  if (!choice.probe) {
    const fix = 'Start the vLLM that runs there with LOCKSTEP_PROBE=0.';
    throw usage('no-probe', 'expected no --no-probe with --upstream', fix);
  }
  if (flags.length > 0) {
    const fix = 'Give them to the vLLM that runs there.';
    throw usage('flags', `expected no flags of vLLM with --upstream, got ${flags[0]}`, fix);
  }
}

/**
 * @param files how the checkpoint is read: folder, contract, tokenizer, name
 * @param signal aborts a start that takes long
 */
export async function openChosen(
  files: VllmParts,
  choice: EngineChoice,
  flags: readonly string[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Opened> {
  if (choice.engine === 'vllm') return openVllm(files, choice, flags, say, signal);
  const maxTokens = choice.maxTokens ?? 32_768;
  const maxSessions = choice.maxSessions ?? 8;
  const threads = choice.threads === undefined ? {} : { threads: choice.threads };
  // Beside each generation stands one that continues from it (`n`), or an answer that runs again as a prompt.
  const common = { maxSessions: 2 * maxSessions + 1, maxTokens, ...threads };
  const opened = async (engine: Engine): Promise<Opened> => ({
    engine,
    maxTokens,
    maxSessions,
    failed: never(),
    lost: engine.lost ?? never(),
    probe: await probed(engine, files, choice, maxTokens, say),
  });
  if (choice.engine === 'torch') {
    const { openTorchEngine } = await import('../../engines/torch.ts');
    const dtype = (choice.precision ?? 'float32') as (typeof PRECISIONS.torch)[number];
    const engine = await openTorchEngine(files.dir, { ...common, dtype, python: choice.python });
    return opened(engine);
  }
  const { openOnnxEngine } = await import('../../engines/onnx.ts');
  const precision = (choice.precision ?? 'fp32') as (typeof PRECISIONS.onnx)[number];
  const engine = await openOnnxEngine(files.dir, { ...common, precision });
  return opened(engine);
}

/** Run the checkpoint's probe; an engine that fails it is closed. */
async function probed(
  engine: Engine,
  files: VllmParts,
  choice: EngineChoice,
  maxTokens: number,
  say: (line: string) => void,
): Promise<ProbeOutcome> {
  try {
    let outcome = notRun(choice.probe ? 'absent' : 'skipped');
    if (choice.probe) {
      const probe = await readProbe(files.dir, files.source.contract);
      if (probe !== null) outcome = await runProbe(engine, files.source, probe, maxTokens);
    }
    say(probeLine(outcome));
    return outcome;
  } catch (error) {
    await engine.close();
    throw error;
  }
}

async function openVllm(
  files: VllmParts,
  choice: EngineChoice,
  flags: readonly string[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Opened> {
  const { identityLine, openAdapters, superviseVllm, useVllm, vllmModules, progressOf } =
    await import('../../engines/vllm/index.ts');
  const named = await openAdapters(choice.adapter ?? [], files.model, files.source.contract);
  const parts = { ...files, adapters: named };
  const over = (relay: Relay) => named.map(({ name }) => ({ name, runner: relay.adapter(name) }));
  const { upstream, replicas = 1 } = choice;
  const count = upstream?.length ?? replicas;
  const limits = {
    // Beside this, the limit is vLLM's own.
    maxTokens: choice.maxTokens ?? Number.MAX_SAFE_INTEGER,
    maxSessions: choice.maxSessions ?? VLLM_SESSIONS * count,
  };
  const stall =
    choice.stallTimeout === undefined ? {} : { stallMs: Math.ceil(choice.stallTimeout * 1000) };
  if (upstream !== undefined) {
    const key = upstreamKeyOf(choice);
    const { relay, failed } = await useVllm(parts, upstream, {
      ...stall,
      key,
      onReady: ({ name, identity }) => say(`vLLM at ${name}: ${identityLine(identity)}`),
    });
    return { engine: relay, failed, lost: never(), probe: null, adapters: over(relay), ...limits };
  }
  await checkWeights(files.dir, files.source.contract.trained, true);
  const python = await findPython({ python: choice.python, modules: vllmModules });
  let probe: ProbeOutcome | null = null;
  const { relay, failed } = await superviseVllm(parts, {
    ...stall,
    python,
    probe: choice.probe,
    onReady: ({ name, identity }) => {
      probe = identity?.probe ?? null;
      say(`vLLM at ${name}: ${identityLine(identity)}`);
    },
    replicas,
    flags,
    dtype: choice.precision,
    maxTokens: choice.maxTokens ?? null,
    signal,
    say,
    onLine: (line) => {
      if (choice.log === 'info') process.stderr.write(`${line}\n`);
      else {
        const step = progressOf(line);
        if (step !== null) say(step);
      }
    },
  });
  return { engine: relay, failed, lost: never(), probe, adapters: over(relay), ...limits };
}

/** The key of the vLLM that runs there. @throws LS_USAGE where the variable holds none */
function upstreamKeyOf({ upstreamKey: variable }: EngineChoice): string | null {
  if (variable === undefined) return null;
  const key = secretOf(variable);
  if (key !== '') return key;
  throw usage('upstream-key', `expected a key in $${variable}, got none`, 'Set the variable.');
}

const secrets = new Map<string, string>();

/** What an environment variable holds; from now on nothing that is started from here may find it there. */
function secretOf(variable: string): string {
  const value = process.env[variable];
  delete process.env[variable];
  if (value !== undefined) secrets.set(variable, value);
  return secrets.get(variable) ?? '';
}

function never(): Promise<LockstepError> {
  return new Promise(() => {});
}

function onlyVllm(what: string, field: string): LockstepError {
  return usage(field, `expected --engine vllm with ${what}`, 'Only vLLM has it.');
}
