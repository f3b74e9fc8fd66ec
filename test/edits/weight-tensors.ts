// What files of weights hold: headers, tensors, the output head, other weights.
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { noise, readParts, readTensors, writeRaw, writeTensors } from '../safetensors.ts';
import {
  changed,
  configured,
  embedding,
  flip,
  type Header,
  head,
  header,
  identity,
  model,
  norm,
  of,
  others,
  put,
  q0,
  type Row,
  reheaded,
  single,
  tensors,
  tied,
  withHeader,
} from './weight-edit.ts';

export const headerEdits: readonly Row[] = [
  { name: 'an empty file', edit: (dir) => truncateSync(path.join(dir, single)), model: header },
  {
    name: 'a truncated file',
    edit: (dir) => {
      const file = path.join(dir, single);
      writeFileSync(file, readFileSync(file).subarray(0, -100));
    },
    model: header,
  },
  {
    name: 'a byte too many',
    edit: (dir) => appendFileSync(path.join(dir, single), '\0'),
    model: header,
  },
  {
    name: 'a header longer than the file',
    edit: (dir) => {
      const file = path.join(dir, single);
      const bytes = readFileSync(file);
      bytes.writeBigUInt64LE(2n ** 63n);
      writeFileSync(file, bytes);
    },
    model: header,
  },
  {
    name: 'a git-lfs pointer',
    edit: (dir) => put(dir, single, 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
    model: header,
  },
  { name: 'a header that is no JSON', edit: reheaded((text) => text.slice(1)), model: header },
  {
    name: 'a header with a byte order mark',
    edit: reheaded((text) => `\uFEFF${text}`),
    model: header,
  },
  {
    name: 'a side with `.0`',
    edit: reheaded((text) => text.replace(/"shape":\[(\d+)\]/, '"shape":[$1.0]')),
    model: header,
  },
  {
    name: 'a negative side',
    edit: reheaded((text) => text.replace(/"shape":\[(\d+)\]/, '"shape":[-$1]')),
    model: header,
  },
  {
    name: 'a type nobody knows',
    edit: withHeader((all) => {
      (all[norm] as Header[string]).dtype = 'F31';
    }),
    model: header,
  },
  {
    name: 'a type of another size',
    edit: withHeader((all) => {
      (all[norm] as Header[string]).dtype = 'F16';
    }),
    model: header,
  },
  {
    name: 'overlapping tensors',
    edit: withHeader((all) => {
      const [a, b] = [all['model.layers.0.input_layernorm.weight'], all[norm]];
      (b as Header[string]).data_offsets = (a as Header[string]).data_offsets;
    }),
    model: header,
  },
  {
    name: 'tensors beyond the end',
    edit: withHeader((all) => {
      const last = all[norm] as Header[string];
      last.data_offsets = [last.data_offsets[0] + 4096, last.data_offsets[1] + 4096];
    }),
    model: header,
  },
  {
    name: 'a hole between tensors',
    edit: (dir) => {
      const { header: all, data } = readParts(path.join(dir, single));
      const last = all[norm] as Header[string];
      last.data_offsets = [last.data_offsets[0] + 8, last.data_offsets[1] + 8];
      writeRaw(path.join(dir, single), JSON.stringify(all), [data, Buffer.alloc(8)]);
    },
    model: header,
  },
];

export const tensorEdits: readonly Row[] = [
  {
    name: 'an extra tensor',
    edit: changed((all) => all.set('extra', noise([4], 1))),
    model: tensors,
  },
  { name: 'a missing tensor', edit: changed((all) => all.delete(q0)), model: tensors },
  {
    name: 'a transposed tensor',
    edit: changed((all) => {
      of(all, 'model.layers.1.mlp.down_proj.weight').shape.reverse();
    }),
    model: tensors,
  },
  {
    name: 'weights of integers',
    edit: changed((all) => {
      of(all, norm).dtype = 'I32';
    }),
    model: tensors,
  },
  {
    name: 'q and k norms under llama',
    edit: changed((all) => {
      all.set('model.layers.0.self_attn.q_norm.weight', noise([6], 1));
      all.set('model.layers.0.self_attn.k_norm.weight', noise([6], 2));
    }),
    model: tensors,
  },
  {
    name: 'a bias without attention_bias',
    edit: changed((all) => all.set('model.layers.0.self_attn.o_proj.bias', noise([36], 1))),
    model: tensors,
  },
  {
    name: 'attention_bias without a bias',
    file: 'config.json',
    edit: configured({ attention_bias: true }),
    model: tensors,
    checkpoint: model,
  },
  {
    name: 'one layer too many',
    edit: changed((all) => {
      for (const [name, held] of [...all]) {
        const more = name.replace('model.layers.3.', 'model.layers.4.');
        if (more !== name) all.set(more, held);
      }
    }),
    model: tensors,
  },
  {
    name: 'a layer less than config.json says',
    edit: changed((all) => {
      for (const name of [...all.keys()]) if (name.includes('layers.3.')) all.delete(name);
    }),
    model: tensors,
  },
  {
    name: 'more layers in config.json than tensors',
    file: 'config.json',
    edit: configured({ num_hidden_layers: 2_000_000_000 }),
    model: tensors,
    checkpoint: model,
  },
  {
    name: 'tensors under another prefix',
    edit: changed((all) => {
      for (const [name, held] of [...all]) {
        all.delete(name);
        all.set(`language_${name}`, held);
      }
    }),
    model: tensors,
  },
  {
    name: 'inverse frequencies of old checkpoints',
    edit: changed((all) => {
      for (let i = 0; i < 4; i++) {
        all.set(`model.layers.${i}.self_attn.rotary_emb.inv_freq`, noise([3], i));
      }
    }),
    model: null,
    checkpoint: identity,
  },
];

export const headEdits: readonly Row[] = [
  {
    name: 'tied, and a head equal to the embedding',
    edit: changed((all) => all.set(head, of(all, embedding))),
    model: null,
    checkpoint: identity,
  },
  {
    name: 'tied, and another head',
    edit: changed((all) => all.set(head, noise([...of(all, embedding).shape], 9))),
    model: tied,
  },
  {
    name: 'tied, and a head of another type',
    edit: changed((all) => {
      const { shape, data } = of(all, embedding);
      all.set(head, { dtype: 'BF16', shape, data: data.subarray(data.length / 2) });
    }),
    model: tied,
  },
  {
    name: 'tied, and a head of another shape',
    edit: changed((all) => all.set(head, noise([7, 36], 9))),
    model: tensors,
  },
  {
    name: 'not tied, and no head',
    file: 'config.json',
    edit: configured({ tie_word_embeddings: false }),
    model: tied,
    checkpoint: model,
  },
  {
    name: 'not tied, with a head',
    file: 'config.json',
    edit: configured({ tie_word_embeddings: false }, (all) =>
      all.set(head, noise([...of(all, embedding).shape], 9)),
    ),
    model: null,
    checkpoint: model,
  },
];

export const identityEdits: readonly Row[] = [
  {
    name: 'one flipped byte',
    edit: (dir) => flip(path.join(dir, single), -1000),
    model: null,
    checkpoint: identity,
  },
  {
    name: 'another model of the same shape',
    edit: (dir) => {
      const file = path.join(dir, single);
      writeTensors(file, others(readTensors(file)));
    },
    model: null,
    checkpoint: identity,
  },
  {
    name: 'saved again with other metadata',
    edit: (dir) => {
      const file = path.join(dir, single);
      writeTensors(file, readTensors(file), { format: 'pt', note: 'again' });
    },
    model: null,
    checkpoint: identity,
  },
  {
    name: 'the same tensors in another order',
    edit: (dir) => {
      const file = path.join(dir, single);
      writeTensors(file, new Map([...readTensors(file)].reverse()));
    },
    model: null,
    checkpoint: identity,
  },
];
