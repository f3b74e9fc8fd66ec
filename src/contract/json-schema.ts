// The contract's schemas as JSON Schema: what Python checks lockstep.json with.
import { z } from 'zod';
import { contractSchema } from './schema.ts';
import { contractV1Schema } from './schema-v1.ts';

/** Text of python/lockstep/contract/contract.schema.json (draft 2020-12), ending in a newline. */
export function contractJsonSchema(): string {
  return text(contractSchema);
}

/** Text of python/lockstep/contract/contract-v1.schema.json: the version before. */
export function contractV1JsonSchema(): string {
  return text(contractV1Schema);
}

function text(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), null, 2)}\n`;
}
