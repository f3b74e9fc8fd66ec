// Writes python/lockstep/contract/contract*.schema.json from the built zod schemas; part of `npm run build`.
import { writeFileSync } from 'node:fs';
import { contractJsonSchema, contractV1JsonSchema } from '../dist/contract/json-schema.js';

for (const [name, text] of [
  ['contract', contractJsonSchema()],
  ['contract-v1', contractV1JsonSchema()],
]) {
  writeFileSync(new URL(`../python/lockstep/contract/${name}.schema.json`, import.meta.url), text);
}
