export type { Push } from './batches.ts';
export { engineName, engineSha256, loadEngine } from './engine/quickjs.ts';
export { type HostLimits, PolicyHost, tracedHost } from './host.ts';
export { integers, interleavedPlans } from './interleaved.ts';
export { type PlanProgress, plan, planStream } from './plan.ts';
export { currentRuntime, type RuntimeIdentity } from './runtime/versions.ts';
export { Segmenter } from './segmenter.ts';
export type { PlannerSource, PolicySource } from './source.ts';
