// One model that `lockstep serve` is asked for: from a folder on the command line, or from a file of several.
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { readContract } from '../../checkpoint/index.ts';
import { type Contract, isTrained } from '../../contract/index.ts';
import type { LockstepError } from '../../errors.ts';
import type { ModelParts } from '../../server/index.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import type { Paint } from '../shared/output.ts';
import { untrainedLine } from '../shared/untrained.ts';
import { type EngineChoice, openChosen } from './engine.ts';

export interface ModelEntry {
  name: string;
  /** Checkpoint folder. */
  dir: string;
  aliases: readonly string[];
  choice: EngineChoice;
  /** vLLM's own flags. */
  flags: readonly string[];
  /** Where it stands in its file, as `serve.config.ts: models[1]`; null on the command line. */
  location: string | null;
}

/** An entry whose engine is open. */
export interface OpenedModel {
  parts: ModelParts;
  digest: string;
  /** Settles with the reason when its engine can serve nothing any more. */
  failed: Promise<LockstepError>;
  /** The same of an engine that nobody starts again: where `--exit-when-lost` is given, it counts too. */
  lost: Promise<LockstepError>;
}

export interface StartContext {
  say(line: string): void;
  colors: Paint;
  /** Aborts a start that takes long. */
  signal: AbortSignal;
}

/**
 * Read a checkpoint and open its engine.
 *
 * @throws LS_CONTRACT_*, LS_TOKENIZER_*, LS_PROBE_MISMATCH, what the engine refuses; nothing is left open then
 */
export async function openEntry(entry: ModelEntry, context: StartContext): Promise<OpenedModel> {
  const { say, signal } = context;
  const { name, dir, choice, flags } = entry;
  const files = await readContract(dir);
  const { contract } = files;
  describe(name, contract, context);
  const tokenizer = await loadTokenizer(dir);
  say(`opening the ${choice.engine} engine …`);
  const since = performance.now();
  const parts = { dir, source: files, tokenizer, model: name };
  const opened = await openChosen(parts, choice, flags, say, signal);
  const { engine, maxTokens, maxSessions, probe, adapters, failed, lost } = opened;
  const seconds = ((performance.now() - since) / 1000).toFixed(1);
  const { info } = engine;
  say(
    choice.upstream === undefined
      ? `${info.name} ${info.precision}, ${info.layers} layers, ready after ${seconds} s`
      : `polling ${choice.upstream.join(', ')} every few seconds; /health/ready says when it serves`,
  );
  const { cacheBytes } = choice;
  return {
    digest: contract.digest,
    failed,
    lost,
    parts: {
      name,
      engine,
      tokenizer,
      contract: files,
      maxTokens,
      maxSessions,
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      ...(probe === null ? {} : { probe }),
      ...(adapters === undefined ? {} : { adapters }),
    },
  };
}

function describe(name: string, contract: Contract, { say, colors }: StartContext): void {
  const { policy, segment, carry, retrieval, digest } = contract;
  say(
    `${colors.bold(name)}  ${policy.name}, S ${segment.max}, M ${carry.size}, A ${carry.sinks}, R ${retrieval.size}  ${colors.dim(digest)}`,
  );
  if (!isTrained(contract)) say(untrainedLine(contract, colors));
}

/** A text that is another one when the entry's options, its contract or a file of its folder are others. */
export async function stateOf({ name, dir, choice, flags }: ModelEntry): Promise<string> {
  const folders = [
    dir,
    ...(choice.engine === 'onnx' ? [path.join(dir, 'onnx', graphOf(choice))] : []),
    ...(choice.adapter ?? []).map((one) => one.slice(one.indexOf('=') + 1)),
  ];
  const files: unknown[] = [];
  for (const folder of folders) {
    for (const file of (await readdir(folder).catch(() => [])).sort()) {
      const found = await stat(path.join(folder, file)).catch(() => null);
      if (found?.isFile()) files.push([file, found.size, found.mtimeMs]);
    }
  }
  return JSON.stringify([name, path.resolve(dir), choice, flags, files]);
}

function graphOf({ precision = 'fp32' }: EngineChoice): string {
  return precision;
}
