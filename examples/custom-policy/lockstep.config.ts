import { defineConfig } from 'lockstep';
import { speeches } from './speeches.ts';

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/custom-policy',
  policy: speeches({ speeches: 3 }),
  segment: { min: 32, max: 512 },
  carry: { size: 128 },
  retrieval: { size: 128, layers: [10, 20] },
  heads: { long: [2] },
});
