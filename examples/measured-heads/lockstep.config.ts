// The heads that look back were measured, and stand in a file of their own beside the config:
//   lockstep profile .lockstep/models/smollm2-135m-instruct --heads 12 --layers 6
//     --segment 256 --carry 64 --retrieval 256 --length 1024 --steps 24
//     --data '.lockstep/texts/shakespeare/*.txt' --out examples/measured-heads/heads.json
import { defineConfig, sentences } from 'lockstep';
import heads from './heads.json' with { type: 'json' };

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/measured-heads',
  policy: sentences(),
  segment: { min: 192, max: 256 },
  carry: { size: 64, sinks: 4 },
  retrieval: { size: 256, ...heads.retrieval },
  heads: heads.heads,
  data: { train: ['../../.lockstep/texts/shakespeare/*.txt'] },
  training: { steps: 12, sequence: 1024, trainable: 'attention' },
});
