// The contract's schema as JSON Schema: what Python checks lockstep.json with.
import { z } from 'zod';
import { contractSchema } from './schema.ts';

/** Text of python/lockstep/contract.schema.json (draft 2020-12), ending in a newline. */
export function contractJsonSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(contractSchema), null, 2)}\n`;
}
