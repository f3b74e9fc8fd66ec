// The one function a lockstep.config.ts calls.
import type { ConfigInput } from './schema.ts';

/**
 * Type-check a config in the editor; `export default defineConfig({...})`. The value is returned as
 * it is: `lockstep` validates it, with defaults and paths resolved, when it loads the file.
 */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}
