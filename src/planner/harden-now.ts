// First import of a bundled policy: the realm is hardened before the policy's modules run.
import { harden } from './harden.ts';

/** The global object; its name is among what is taken away. */
export const realm: object = globalThis;
harden(realm);
