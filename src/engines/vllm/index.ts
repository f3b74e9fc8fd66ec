// The vLLM engine: supervision, the relay in front of it, what it reports.
export { adapterFolders, openAdapters } from './adapters.ts';
export { checkFlags, type NamedAdapter, vllmCommand } from './flags.ts';
export { identityLine } from './identity.ts';
export {
  type SupervisedOptions,
  superviseVllm,
  upstreamOrigin,
  useVllm,
  type VllmEngine,
  type VllmParts,
  vllmInfo,
  vllmModules,
} from './open.ts';
export { progressOf } from './progress.ts';
export type { Relay } from './relay.ts';
