// What `import { ... } from 'lockstep'` gives.
export {
  type Config,
  type ConfigInput,
  defineConfig,
  loadConfig,
  type TrainingInput,
} from './config/index.ts';
export {
  type AttachOptions,
  attach,
  type Contract,
  type ContractFiles,
  contractSchema,
  digestOf,
  type Json,
  type MakeContractOptions,
  makeContract,
  type Recipe,
  readContract,
  writeContract,
} from './contract/index.ts';
export type {
  Engine,
  EngineInfo,
  EngineSession,
  KeptState,
  Retrieved,
  Rows,
  SessionMemory,
  StepOptions,
  StepResult,
} from './engines/engine.ts';
export { type GenerateEvent, type GenerateRequest, generate } from './engines/generate.ts';
export { type OnnxEngineOptions, openOnnxEngine, type Precision } from './engines/onnx.ts';
export { Sequence } from './engines/sequence.ts';
export { openTorchEngine, type TorchDtype, type TorchEngineOptions } from './engines/torch.ts';
export { LockstepError, type LockstepErrorOptions } from './errors.ts';
export {
  type HostLimits,
  type PlannerSource,
  type PlanProgress,
  PolicyHost,
  type PolicySource,
  plan,
  planStream,
  Segmenter,
} from './planner/index.ts';
export {
  type EncodeOptions,
  loadTokenizer,
  type Tokenizer,
} from './planner/tokenizer.ts';
export * from './policies/index.ts';
export { segmentsOf, vocabularyOf } from './policies/testing.ts';
export { createServer, type LockstepServer, type ServerOptions } from './server/index.ts';
