// The HTTP server and what it is made of.
export { AuditLog } from './audit.ts';
export { BATCH_BYTES, BatchStore } from './batches/store.ts';
export { changeKeys, readKeys } from './keys/file.ts';
export type { KeyEntry, KeyLimits } from './keys/format.ts';
export { keyEntry } from './keys/format.ts';
export { KeyRing } from './keys/ring.ts';
export { newKey } from './keys/secret.ts';
export { checkProxies } from './limits/proxies.ts';
export { probePort } from './listen.ts';
export { CACHE_BYTES, type ModelParts, type ServedModel } from './models/model.ts';
export type { Listed } from './models/models.ts';
export { DRAIN_MS, LOOPBACK, type ServerOptions } from './options.ts';
export { createServer, type LockstepServer, type ServerParts } from './server.ts';
export { readTls } from './tls.ts';
