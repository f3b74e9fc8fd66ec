// What `import { ... } from 'lockstep'` gives.

export {
  type AttachOptions,
  attach,
  type ContractFiles,
  type MakeContractOptions,
  makeContract,
  readContract,
  writeContract,
} from './checkpoint/index.ts';
export {
  type Config,
  type ConfigInput,
  defineConfig,
  defineServe,
  loadConfig,
  type ServeInput,
  type TrainingInput,
} from './config/index.ts';
export {
  type Contract,
  contractSchema,
  digestOf,
  type Json,
  type Recipe,
} from './contract/index.ts';
export type {
  Engine,
  EngineInfo,
  EngineSession,
  Retrieved,
  Rows,
  SessionMemory,
  StateSnapshot,
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
export * from './policies/index.ts';
export { segmentsOf, vocabularyOf } from './policies/testing.ts';
export { createServer, type LockstepServer, type ServerOptions } from './server/index.ts';
export {
  type EncodeOptions,
  loadTokenizer,
  type Tokenizer,
} from './tokenizer/tokenizer.ts';
