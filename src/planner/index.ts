export { type HostLimits, PolicyHost, type Push } from './host.ts';
export { type PlanProgress, plan, planStream } from './plan.ts';
export { Segmenter } from './segmenter.ts';
export type { PlannerSource, PolicySource } from './source.ts';
