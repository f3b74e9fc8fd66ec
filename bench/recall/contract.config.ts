// The contract whose recall is measured: `RECALL_ALIGN` (1) as segment.align, the rest as the table says.
import { after, anyOf, defineConfig, sentences, turns } from 'lockstep';
import heads from './profile.json' with { type: 'json' };

const align = Number(process.env['RECALL_ALIGN'] ?? 1);

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/recall',
  policy: anyOf(after(sentences(), 384), turns()),
  segment: { min: align, max: 512, align },
  carry: { size: 128, sinks: 4, heads: 'all' },
  retrieval: { size: 512, recipe: 'blocks', window: 16, ...heads.retrieval },
  heads: heads.heads,
});
