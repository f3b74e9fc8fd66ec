// The contract whose recall is measured, the quickstart's: `RECALL_AGAIN` (0) as turns({ again }).
import { after, anyOf, defineConfig, sentences, turns } from 'lockstep';
import heads from './profile.json' with { type: 'json' };

const again = Number(process.env['RECALL_AGAIN'] ?? 0);

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/recall',
  policy: anyOf(after(sentences(), 384), turns({ again })),
  segment: { max: 512 },
  carry: { size: 256, sinks: 4, heads: 'all' },
  retrieval: { size: 512, recipe: 'blocks', window: 16, ...heads.retrieval },
  heads: heads.heads,
});
