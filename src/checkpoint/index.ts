// Checkpoints under a contract: made from a config, written, read and verified, renewed, detached.

export { contractFile } from '../contract/document.ts';
export { checkWeights, identify, readWeights, type Weights } from '../weights/read.ts';
export { adoptContract } from './adopt.ts';
export { type AttachOptions, attach, contractFor, examine, refuseInside } from './attach.ts';
export { detach } from './detach.ts';
export {
  type ContractFiles,
  type ContractSettings,
  type MakeContractOptions,
  makeContract,
} from './make.ts';
export { type ReadOptions, readContract } from './read.ts';
export { type Upgraded, type UpgradeOptions, upgrade } from './upgrade.ts';
export { writeContract, writeContractFiles } from './write.ts';
