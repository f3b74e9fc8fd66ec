// A contract from a config and a checkpoint: everything that changes a number, gathered once.
import path from 'node:path';
import { type ConfigProblem, type ConfigValues, configError } from '../config/schema.ts';
import { bundlePolicy } from '../contract/bundle.ts';
import { digestOf } from '../contract/digest.ts';
import { type ModelInfo, readModel } from '../contract/model.ts';
import { prepareTables } from '../contract/prepare.ts';
import type { Contract } from '../contract/schema.ts';
import { neverTrained } from '../contract/trained.ts';
import { currentRuntime, plan } from '../planner/index.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { checkPolicy } from './check-policy.ts';
import { goldenTokens } from './golden.ts';

/** A contract and the policy it names: what a planner needs, and what a checkpoint carries. */
export interface ContractFiles {
  readonly contract: Contract;
  /** Text of policy.js. */
  readonly policySource: string;
}

/** The parts of a config that end in the contract. */
export type ContractSettings = Pick<
  ConfigValues,
  'policy' | 'segment' | 'carry' | 'retrieval' | 'heads'
> & {
  bos?: boolean | undefined;
  training?: { truncation: number } | undefined;
  /** Long heads are chosen later: what only they use may stand without any. */
  headsOpen?: true;
  /** Where they stand, as errors name it. */
  file?: string | undefined;
};

export interface MakeContractOptions {
  config: ContractSettings;
  /** Folder of the checkpoint. */
  modelDir: string;
  /** The checkpoint's tokenizer, where it is already loaded. */
  tokenizer?: Tokenizer;
}

/**
 * Make the contract of a config for a checkpoint: prepare the policy's tables, bundle its code, plan
 * the golden sequences, digest.
 *
 * @throws LS_CONFIG_INVALID when the config does not fit the model, LS_MODEL_*, LS_TOKENIZER_*, LS_POLICY_*
 */
export async function makeContract(options: MakeContractOptions): Promise<ContractFiles> {
  const { config, modelDir } = options;
  const model = await readModel(modelDir);
  const long = longHeads(config, model);
  checkFit(config, model, long);
  const tokenizer = options.tokenizer ?? (await loadTokenizer(modelDir));
  if (config.bos === true && tokenizer.bos === null) {
    throw configError(nameOf(config), [
      {
        path: 'bos',
        expected: 'expected false, as the tokenizer has no BOS token',
        received: 'true',
      },
    ]);
  }
  const { policy } = config;
  const { source: policySource, sha256 } = await bundlePolicy(policy);
  const { tables, chat } = await prepareTables(policy, tokenizer);
  const draft: Contract = {
    lockstep: 2,
    policy: {
      name: policy.name,
      file: 'policy.js',
      sha256,
      params: policy.params as Contract['policy']['params'],
      runtime: { ...currentRuntime },
    },
    tables,
    segment: config.segment,
    carry: config.carry,
    retrieval: config.retrieval,
    heads: { long },
    pool: { capacity: null },
    tokenizer: {
      sha256: tokenizer.sha256,
      size: model.vocabulary,
      bos: (config.bos ?? tokenizer.addsBos) ? tokenizer.bos : null,
      ends: [...tokenizer.ends],
    },
    model: model.shape,
    golden: [],
    training: { truncation: config.training?.truncation ?? 1 },
    trained: neverTrained,
    digest: '',
  };
  const sequences = await goldenTokens(
    tokenizer,
    tables,
    config.segment.max,
    draft.policy.params,
    chat,
  );
  const source = { contract: draft, policySource };
  checkPolicy(policy, source, sequences);
  const golden = sequences.map((tokens) => ({ tokens, boundaries: plan(source, tokens) }));
  const contract = { ...draft, golden };
  return { contract: { ...contract, digest: digestOf(contract) }, policySource };
}

/** The file of a config, as a user knows it. */
function nameOf({ file }: ContractSettings): string {
  return file === undefined ? 'the config' : path.relative(process.cwd(), file) || file;
}

/** H_long of every layer: one list for all, or a list for each. */
function longHeads(config: ContractSettings, model: ModelInfo): number[][] {
  const { long } = config.heads;
  const perLayer = long.length > 0 && Array.isArray(long[0]);
  if (!perLayer) return Array.from({ length: model.layers }, () => [...(long as number[])]);
  if (long.length === model.layers) return (long as number[][]).map((heads) => [...heads]);
  throw configError(nameOf(config), [
    {
      path: 'heads.long',
      expected: `expected ${model.layers} lists, one for each layer of the model`,
      received: String(long.length),
    },
  ]);
}

/** Everything in the config that the model does not have, or that would have no effect on it. */
function checkFit(config: ContractSettings, model: ModelInfo, long: readonly number[][]): void {
  const problems: ConfigProblem[] = [];
  const same = !Array.isArray(config.heads.long[0]);
  long.slice(0, same ? 1 : undefined).forEach((heads, layer) => {
    for (const head of heads) {
      if (head < model.kvHeads) continue;
      problems.push({
        path: same ? 'heads.long' : `heads.long[${layer}]`,
        expected: `expected KV heads below ${model.kvHeads}, which is what the model has`,
        received: String(head),
      });
    }
  });
  for (const layer of config.retrieval.layers) {
    if (layer >= model.layers) {
      problems.push({
        path: 'retrieval.layers',
        expected: `expected layers below ${model.layers}, which is what the model has`,
        received: String(layer),
      });
    } else if (long[layer]?.length === 0) {
      problems.push({
        path: 'retrieval.layers',
        expected: 'expected layers that have long heads (heads.long)',
        received: `${layer}, which has none and so would retrieve nothing`,
      });
    }
  }
  const allLong = long.every((heads) => heads.length === model.kvHeads);
  if (config.carry.size > 0 && config.carry.heads !== 'all' && allLong) {
    problems.push({
      path: 'carry.size',
      expected: 'expected 0, as every head is long and none would use a carry',
      received: String(config.carry.size),
    });
  }
  const none = config.headsOpen !== true && long.every((heads) => heads.length === 0);
  if (config.carry.heads === 'all' && none) {
    problems.push({
      path: 'carry.heads',
      expected: 'expected "local", as no head is long',
      received: '"all"',
    });
  }
  if (problems.length > 0) throw configError(nameOf(config), problems);
}
