// SmolLM2-135M-Instruct learns how people chat: conversations, loss on the answers alone, LoRA.
import { after, anyOf, defineConfig, sentences, turns } from 'lockstep';
import quickstart from '../quickstart/lockstep.config.ts';

export default defineConfig({
  ...quickstart,
  out: '../../.lockstep/runs/chat',
  // A question chooses what the answer sees; long answers are cut where a sentence ends.
  policy: anyOf(after(sentences(), 256), turns()),
  segment: { min: 32, max: 512 },
  data: {
    train: ['../../.lockstep/texts/chitchat/conversations.jsonl'],
    validation: 0.02,
    validationDocuments: 16,
  },
  training: {
    minutes: 10,
    sequence: 2048,
    truncation: 1,
    learningRate: 1e-3,
    warmup: 0.1,
    lora: { rank: 16, alpha: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
  },
});
