// Configs: what a lockstep.config.ts says, and how it is loaded.

export { filesOfConfig } from '../user-places.ts';
export { defineConfig } from './define.ts';
export { defineServe } from './define-serve.ts';
export { type Config, defaultConfigFile, loadConfig, resolvePaths } from './load.ts';
export { type ConfigInput, type ConfigValues, parseConfig } from './schema.ts';
export {
  checkServe,
  loadServe,
  type ServeConfig,
  type ServeInput,
  type ServeModel,
  type ServeServer,
} from './serve.ts';
export type { TrainingInput, TrainingSettings } from './training.ts';
