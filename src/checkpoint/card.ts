// README.md of a checkpoint: with a contract and no training under it, or with its contract removed.
import path from 'node:path';
import type { ModelInfo } from '../contract/model.ts';
import type { Contract } from '../contract/schema.ts';
import { isTrained } from '../contract/trained.ts';

/** Model card (Markdown with YAML front matter) of an attached checkpoint. */
export function modelCard(contract: Contract, model: ModelInfo): string {
  const { carry, heads } = contract;
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

**Not trained under this contract.** The weights are those of \`${base}\`. Lockstep runs them in segments, with a bounded
carry and retrieval instead of a full KV cache.${
    carry.sinks > 0
      ? `
The first ${carry.sinks} tokens (attention sinks) stay visible to every segment, which keeps an untrained model close to
full attention. Training in segments brings it closer.`
      : `
No attention sinks are kept (A = 0), so the quality of an untrained model is poor. Set \`carry.sinks\` to 4, or train before use.`
  }

${contractTable(contract, `${longHeads} of ${all} KV heads`)}

\`\`\`sh
lockstep verify .                 # compare every engine with the trainer
lockstep serve . --engine torch   # serve an OpenAI-compatible API
lockstep train                    # train in segments, with the config of this contract
\`\`\`

\`lockstep.json\` is the contract, and \`policy.js\` decides where segments end. \`config.json\` names
\`Segmented${model.family}ForCausalLM\` and a \`model_type\` of Lockstep's own, so a program without Lockstep refuses the
checkpoint instead of running it with full attention. \`lockstep detach . --out PLAIN\` makes a copy for such programs.
`;
}

/** Model card of a plain checkpoint that `lockstep detach` made of the checkpoint named `from`. */
export function detachedCard(from: string, contract: Contract): string {
  const { trained, heads } = contract;
  const longHeads = heads.long.reduce((sum, list) => sum + list.length, 0);
  const training = isTrained(contract)
    ? `were trained for ${trained.steps} steps (${trained.tokens} tokens) under the removed contract`
    : 'were never trained under the removed contract';
  return `---
library_name: transformers
pipeline_tag: text-generation
tags:
- lockstep
- full-attention
---
# ${from}, without its Lockstep contract

**This copy runs with full attention; \`${from}\` is meant to run in segments.** \`lockstep detach\` removed the contract.
Any Hugging Face program runs this copy, and its answers differ from those of the segmented checkpoint. The weights are
the same. They ${training}:

${contractTable(contract, String(longHeads))}
`;
}

function contractTable(contract: Contract, longHeads: string): string {
  const { segment, carry, retrieval, policy, digest } = contract;
  return `| contract | |
| --- | --- |
| digest | \`${digest}\` |
| policy | \`${policy.name}\` ${JSON.stringify(policy.params)} |
| segment | ${segment.min} to ${segment.max} tokens, cuts on multiples of ${segment.align} |
| carry | ${carry.size} tokens${carry.heads === 'all' ? ' in every head' : ''}, ${carry.sinks} sinks |
| retrieval | ${
    retrieval.size > 0
      ? `${retrieval.size} rows by \`${retrieval.recipe}\`, layers ${retrieval.layers.join(', ')}`
      : 'none'
  } |
| long heads | ${longHeads} |`;
}
