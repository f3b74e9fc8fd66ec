// The one function a serve.config.ts calls.
import type { ServeInput } from './serve.ts';

/** Type-check a serve.config.ts in the editor; `lockstep serve --config` validates the value when it loads the file. */
export function defineServe(config: ServeInput): ServeInput {
  return config;
}
