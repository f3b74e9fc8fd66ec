// Contracts: what they hold, their digest, and what a checkpoint's config.json has to say.
export { canonicalJson, digestOf, sha256, sha256File } from './digest.ts';
export { formatContract } from './format.ts';
export { type ModelInfo, readModel, segmentedArchitecture } from './model.ts';
export { type Contract, contractSchema, type Json, type Recipe } from './schema.ts';
export { isTrained, neverTrained } from './trained.ts';
