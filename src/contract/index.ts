// Contracts: made from a config, stored in a checkpoint, verified when read.
export { adoptContract } from './adopt.ts';
export { type AttachOptions, attach } from './attach.ts';
export { detach } from './detach.ts';
export { canonicalJson, digestOf, sha256, sha256File } from './digest.ts';
export { formatContract } from './format.ts';
export {
  type ContractFiles,
  type ContractSettings,
  type MakeContractOptions,
  makeContract,
} from './make.ts';
export { type ModelInfo, readModel, segmentedArchitecture } from './model.ts';
export { type ReadOptions, readContract } from './read.ts';
export { type Contract, contractSchema, type Json, type Recipe } from './schema.ts';
export { isTrained, neverTrained } from './trained.ts';
export { type Upgraded, type UpgradeOptions, upgrade } from './upgrade.ts';
export { checkWeights, identify, readWeights, type Weights } from './weights.ts';
export { contractFile, writeContract, writeContractFiles } from './write.ts';
