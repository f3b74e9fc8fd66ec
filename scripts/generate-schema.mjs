// Writes python/lockstep/contract.schema.json from the built zod schema; part of `npm run build`.
import { writeFileSync } from 'node:fs';
import { contractJsonSchema } from '../dist/contract/json-schema.js';

const file = new URL('../python/lockstep/contract.schema.json', import.meta.url);
writeFileSync(file, contractJsonSchema());
