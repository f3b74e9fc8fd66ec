// Which tensors a model has, and their shapes: one table (counterpart of python/lockstep/weights/table.py).
// test/python/test_weights.py compares it with the state dicts of transformers' own models.
import type { ModelShape } from '../contract/schema-model.ts';

/** What of config.json the shapes follow from. */
export type WeightShape = Omit<ModelShape, 'rope' | 'normEpsilon' | 'activation'>;

export const embedding = 'model.embed_tokens.weight';
export const head = 'lm_head.weight';

/** Inverse frequencies that old checkpoints hold; every reader derives them from config.json instead. */
export const ignored = /^model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/;

/** Shape of every tensor by name, in the model's order; without `lm_head.weight` where it is tied. */
export function expectedTensors(s: WeightShape): Map<string, number[]> {
  const [hidden, inner] = [s.hiddenSize, s.intermediateSize];
  const [q, kv] = [s.queryHeads * s.headDim, s.kvHeads * s.headDim];
  const layer: [string, number[]][] = [
    ['input_layernorm.weight', [hidden]],
    ['self_attn.q_proj.weight', [q, hidden]],
    ['self_attn.k_proj.weight', [kv, hidden]],
    ['self_attn.v_proj.weight', [kv, hidden]],
    ['self_attn.o_proj.weight', [hidden, q]],
    ['post_attention_layernorm.weight', [hidden]],
    ['mlp.gate_proj.weight', [inner, hidden]],
    ['mlp.up_proj.weight', [inner, hidden]],
    ['mlp.down_proj.weight', [hidden, inner]],
  ];
  if (s.attentionBias !== 'none') {
    layer.push(['self_attn.q_proj.bias', [q]], ['self_attn.k_proj.bias', [kv]]);
    layer.push(['self_attn.v_proj.bias', [kv]]);
  }
  if (s.attentionBias === 'qkvo') layer.push(['self_attn.o_proj.bias', [hidden]]);
  if (s.family === 'qwen3') {
    layer.push(['self_attn.q_norm.weight', [s.headDim]], ['self_attn.k_norm.weight', [s.headDim]]);
  }
  if (s.mlpBias) {
    layer.push(['mlp.gate_proj.bias', [inner]], ['mlp.up_proj.bias', [inner]]);
    layer.push(['mlp.down_proj.bias', [hidden]]);
  }
  const all = new Map<string, number[]>([[embedding, [s.vocabulary, hidden]]]);
  for (let i = 0; i < s.layers; i++) {
    for (const [name, shape] of layer) all.set(`model.layers.${i}.${name}`, shape);
  }
  all.set('model.norm.weight', [hidden]);
  if (!s.tied) all.set(head, [s.vocabulary, hidden]);
  return all;
}
