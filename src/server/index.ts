// The HTTP server and what it is made of.
export {
  CACHE_BYTES,
  createServer,
  type LockstepServer,
  probePort,
  type ServerOptions,
  type ServerParts,
} from './server.ts';
