// The README.md of a checkpoint that has a contract and no training under it.
import path from 'node:path';
import type { ModelInfo } from './model.ts';
import type { Contract } from './schema.ts';

/** Model card (Markdown with YAML front matter) of an attached checkpoint. */
export function modelCard(contract: Contract, model: ModelInfo): string {
  const { segment, carry, retrieval, heads, policy, digest } = contract;
  const longHeads = heads.long.reduce((sum, list) => sum + list.length, 0);
  const all = heads.long.length * model.kvHeads;
  const base = path.basename(model.dir);
  return `---
library_name: lockstep
pipeline_tag: text-generation
tags:
- lockstep
- segmented-execution
---
# ${base}, with a Lockstep contract

**Not trained under this contract.** The weights are those of \`${base}\`; only the way they are run
is new: in segments, with a bounded carry and retrieval in place of a full KV cache.${
    carry.sinks > 0
      ? `
The first ${carry.sinks} tokens stay visible to every segment, which keeps an untrained model close to full attention;
segmented training brings it closer.`
      : `
No attention sinks are kept (A = 0): an untrained model loses much in this setting. Set
\`carry.sinks\` to 4, or train before use.`
  }

| contract | |
| --- | --- |
| digest | \`${digest}\` |
| policy | \`${policy.name}\` ${JSON.stringify(policy.params)} |
| segment | ${segment.min} to ${segment.max} tokens, cuts on multiples of ${segment.align} |
| carry | ${carry.size} tokens, ${carry.sinks} sinks |
| retrieval | ${
    retrieval.size > 0
      ? `${retrieval.size} rows by \`${retrieval.recipe}\`, layers ${retrieval.layers.join(', ')}`
      : 'none'
  } |
| long heads | ${longHeads} of ${all} KV heads |

\`\`\`sh
lockstep verify .                 # boundaries and logits, engine against engine
lockstep serve . --engine torch   # an OpenAI-compatible server
lockstep train                    # train in segments, from the config that made this contract
\`\`\`

\`config.json\` names \`Segmented${model.family}ForCausalLM\`, so that a runtime without Lockstep refuses
the checkpoint instead of running it with full attention. \`lockstep.json\` is the contract,
\`policy.js\` the code that decides where segments end.
`;
}
