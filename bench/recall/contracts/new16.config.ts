import { anyOf, after, defineConfig, sentences, turns } from 'lockstep';
import order from '../heads.json' with { type: 'json' };
const n = 24;
const long = Array.from({length: 30}, (_, l) => order.heads.slice(0, n).filter(([a]) => a === l).map(([, h]) => h as number).sort());
export default defineConfig({
  model: '/work/wt/recall/.lockstep/models/smollm2-135m-instruct',
  out: '/tmp/recall/out',
  policy: anyOf(after(sentences(), 384), turns()),
  segment: { min: 16, max: 512, align: 16 },
  carry: { size: 128, sinks: 4, heads: 'all' },
  retrieval: { size: 512, recipe: 'blocks', layers: long.flatMap((h, l) => (h.length ? [l] : [])) },
  heads: { long },
});
