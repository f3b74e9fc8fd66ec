import { anyOf, defineConfig, paragraphs, sentences } from 'lockstep';

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/library',
  policy: anyOf(paragraphs(), sentences()),
  segment: { min: 64, max: 256 },
  carry: { size: 64 },
  retrieval: { size: 64, layers: [10, 20] },
  heads: { long: [2] },
});
