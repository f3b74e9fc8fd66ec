// What `lockstep profile` measures with: the checkpoint under a contract, the texts, the effort.
import path from 'node:path';
import { attach, type ContractSettings } from '../../checkpoint/index.ts';
import { type Config, loadConfig } from '../../config/index.ts';
import { blockDefaults } from '../../contract/schema-retrieval.ts';
import { LockstepError } from '../../errors.ts';
import { fixed } from '../../policies/index.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { chatWrapOrPlain } from '../shared/chat-wrap.ts';
import type { Method } from './heads-file.ts';

export interface ProfileOptions {
  method: Method;
  heads: number;
  /** Without it as many as the best heads lie in. */
  layers?: number;
  data?: string[];
  config?: string;
  segment: number;
  carry: number;
  sinks: number;
  retrieval: number;
  recipe: 'anchors' | 'topk' | 'blocks';
  length?: number;
  sequences: number;
  needles: number;
  steps: number;
  penalty: number;
  seed: number;
  out: string;
  plot?: string;
  device: string;
  threads?: number;
  python?: string;
  json?: true;
}

type Name = keyof ProfileOptions;

const sizes: readonly Name[] = ['segment', 'carry', 'sinks', 'recipe'];
const measuring: readonly Name[] = [
  ...['data', 'config', 'retrieval', 'length', 'seed', 'device', 'threads'],
  ...sizes,
] as Name[];
/** Options without an effect, by method. */
const idle: Readonly<Record<Method, readonly Name[]>> = {
  gates: ['sequences', 'needles'],
  recall: ['sequences', 'steps', 'penalty', 'retrieval', ...sizes],
  mixed: ['sequences'],
  mass: ['needles', 'steps', 'penalty', 'retrieval', 'recipe'],
  first: [...measuring, 'sequences', 'needles', 'steps', 'penalty'],
  even: [...measuring, 'sequences', 'needles', 'steps', 'penalty'],
};

/**
 * Refuse options that would change nothing.
 *
 * @throws LS_USAGE
 */
export function checkEffect(options: ProfileOptions, given: (name: Name) => boolean): void {
  const { method } = options;
  const useless = idle[method].find(given);
  const doubled = options.config === undefined ? undefined : sizes.find(given);
  if (useless !== undefined) {
    throw usage(useless, `method ${method}, which does not use it`);
  }
  if (doubled !== undefined) throw usage(doubled, '--config, which sets it');
  const rule = method === 'first' || method === 'even';
  if (rule && !given('layers')) {
    throw new LockstepError('LS_USAGE', `expected --layers with method ${method}, got none`, {
      fix: 'Set --layers: a rule cannot choose the number of layers.',
      field: 'layers',
    });
  }
  if (!rule && !given('data') && !given('config')) {
    throw new LockstepError('LS_USAGE', `expected texts for method ${method}, got none`, {
      fix: 'Name them with --data, or a config with data.train by --config.',
      field: 'data',
    });
  }
}

function usage(name: Name, beside: string): LockstepError {
  return new LockstepError('LS_USAGE', `expected no --${name} with ${beside}`, {
    fix: `Leave --${name} out.`,
    field: name,
  });
}

/** Tokens of a text with a needle. */
const needleLength = 1024;

/** A measurement's part of the job, and the folder made for it. */
export interface Measure {
  readonly task: Readonly<Record<string, unknown>>;
  readonly staged: string;
}

/**
 * Put the checkpoint under the contract to be measured with, without long heads, in a folder beside
 * `out` that the caller removes.
 *
 * @throws what loading a config and attaching a contract throw
 */
export async function measureTask(
  modelDir: string,
  context: number,
  options: ProfileOptions,
  retrievalGiven: boolean,
): Promise<Measure> {
  const config = options.config === undefined ? undefined : await loadConfig(options.config);
  const settings = config === undefined ? fixedSettings(options) : bare(config);
  if (config !== undefined && retrievalGiven) settings.retrieval.size = options.retrieval;
  const out = path.resolve(options.out);
  const staged = path.join(path.dirname(out), `.${path.basename(out)}.start`);
  const { method, sequences, needles, steps, penalty } = options;
  const usual = method === 'recall' ? needleLength : 4 * settings.segment.max;
  const asks = method === 'recall' || method === 'mixed';
  const task = {
    contract: staged,
    texts: texts(options, config),
    length: options.length ?? Math.min(usual, context),
    seed: options.seed,
    out,
    device: options.device,
    threads: options.threads ?? null,
    ...(method === 'mass' ? { sequences } : {}),
    ...(method === 'gates' || method === 'mixed' ? { steps, penalty } : {}),
    ...(asks ? { needles, wrap: await wrapOf(modelDir) } : {}),
  };
  // Last: what fails after it would leave the folder behind.
  await attach({ config: settings, modelDir, out: staged, force: true });
  return { task, staged };
}

async function wrapOf(modelDir: string): Promise<[string, string]> {
  const tokenizer = await loadTokenizer(modelDir);
  return chatWrapOrPlain(tokenizer, 'Correct the chat template, or use --method gates.');
}

/** The texts, and how they are read: as the config says, without the documents that it holds out. */
function texts(options: ProfileOptions, config: Config | undefined): Record<string, unknown> {
  const given = config?.data;
  const reading = {
    field: given?.field ?? 'text',
    skipBroken: given?.skipBroken ?? false,
    cache: given?.cache === undefined ? null : path.resolve(config?.root ?? '', given.cache),
  };
  if (options.data !== undefined) {
    return { files: options.data, root: process.cwd(), heldOut: 0, ...reading };
  }
  if (config !== undefined && given !== undefined) {
    const heldOut = typeof given.validation === 'number' ? given.validation : 0;
    return { files: given.train, root: config.root, heldOut, ...reading };
  }
  throw new LockstepError('LS_CONFIG_INVALID', 'expected data.train in the config, got none', {
    fix: 'Add data: { train: [...] }, or name texts with --data.',
    field: 'data.train',
  });
}

/** A config without its choice of heads: that is what is looked for. */
function bare(config: Config): ContractSettings {
  return {
    ...config,
    heads: { long: [] },
    headsOpen: true,
    retrieval: { ...config.retrieval, layers: [] },
  };
}

/** The paper's fixed cuts, in the sizes of the command line. */
function fixedSettings(options: ProfileOptions): ContractSettings {
  const { segment, carry, sinks, retrieval, recipe } = options;
  const rows = { size: retrieval, layers: [] };
  return {
    policy: fixed({ size: segment }),
    segment: { min: 1, max: segment, align: 1 },
    carry: { size: carry, sinks },
    retrieval: recipe === 'blocks' ? { ...rows, recipe, ...blockDefaults } : { ...rows, recipe },
    heads: { long: [] },
  };
}
