// Which files are the weights, and what an index says of them.
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { readTensors, writeTensors } from '../safetensors.ts';
import {
  files,
  identity,
  index,
  indexed,
  norm,
  others,
  put,
  type Row,
  reindexed,
  shards,
  single,
  split,
  weights,
} from './weight-edit.ts';

/** Refused with every other path in a checkpoint's files, before the index is read. */
const outside = 'LS_CHECKPOINT_PATH';

export const fileEdits: readonly Row[] = [
  { name: 'no change', edit: () => {}, model: null },
  { name: 'weights removed', edit: (dir) => rmSync(path.join(dir, single)), model: weights },
  {
    name: 'a pickled file alone',
    edit: (dir) => renameSync(path.join(dir, single), path.join(dir, 'pytorch_model.bin')),
    model: weights,
  },
  { name: 'a pickled file beside', edit: (dir) => put(dir, 'pytorch_model.bin', 'x'), model: null },
  {
    name: 'model.safetensors under another name',
    edit: (dir) => renameSync(path.join(dir, single), path.join(dir, 'weights.safetensors')),
    model: weights,
  },
  {
    name: 'another safetensors file beside',
    edit: (dir) => copyFileSync(path.join(dir, single), path.join(dir, 'consolidated.safetensors')),
    model: files,
  },
  {
    name: 'a hidden file beside (._model.safetensors)',
    edit: (dir) => put(dir, '._model.safetensors', 'x'),
    model: null,
  },
  {
    name: 'adapter_config.json',
    edit: (dir) => put(dir, 'adapter_config.json', '{}'),
    model: files,
  },
  {
    name: 'adapter_model.safetensors',
    edit: (dir) =>
      copyFileSync(path.join(dir, single), path.join(dir, 'adapter_model.safetensors')),
    model: files,
  },
  {
    name: 'adapter_model.bin',
    edit: (dir) => put(dir, 'adapter_model.bin', 'x'),
    model: files,
  },
  {
    name: 'model.safetensors a folder',
    edit: (dir) => {
      rmSync(path.join(dir, single));
      mkdirSync(path.join(dir, single));
    },
    model: files,
  },
  {
    name: 'model.safetensors a link to nothing',
    edit: (dir) => {
      rmSync(path.join(dir, single));
      symlinkSync('nowhere', path.join(dir, single));
    },
    model: files,
  },
  {
    name: 'model.safetensors a link to the same bytes elsewhere',
    edit: (dir) => {
      mkdirSync(path.join(dir, 'elsewhere'));
      renameSync(path.join(dir, single), path.join(dir, 'elsewhere', 'blob'));
      symlinkSync(path.join('elsewhere', 'blob'), path.join(dir, single));
    },
    model: null,
  },
];

export const indexEdits: readonly Row[] = [
  { name: 'the same tensors in two shards', edit: split, model: null, checkpoint: identity },
  {
    name: 'one file and a sharded set of the same tensors',
    edit: (dir) => {
      const whole = readFileSync(path.join(dir, single));
      split(dir);
      writeFileSync(path.join(dir, single), whole);
    },
    model: files,
  },
  {
    name: 'one file and a sharded set of others',
    edit: (dir) => {
      const all = readTensors(path.join(dir, single));
      split(dir);
      writeTensors(path.join(dir, single), others(all));
    },
    model: files,
  },
  {
    name: 'shards without their index',
    edit: (dir) => {
      split(dir);
      rmSync(path.join(dir, index));
    },
    model: weights,
  },
  {
    name: 'the index names a file that is not there',
    edit: (dir) => {
      split(dir);
      rmSync(path.join(dir, shards[1]));
    },
    model: indexed,
  },
  {
    name: 'the index names ../model.safetensors',
    edit: (dir) => split(dir, ['../a.safetensors', shards[1]]),
    model: outside,
  },
  {
    name: 'the index names an absolute path',
    edit: reindexed((map) => {
      map[norm] = '/model.safetensors';
    }),
    model: outside,
  },
  {
    name: 'the index names a path with a backslash',
    edit: reindexed((map) => {
      map[norm] = '..\\model.safetensors';
    }),
    model: outside,
  },
  {
    name: 'the index names a pickled file',
    edit: reindexed((map) => {
      map[norm] = 'pytorch_model.bin';
    }),
    model: indexed,
  },
  {
    name: 'the index names a tensor in the other shard',
    edit: reindexed((map) => {
      map[norm] = shards[0];
    }),
    model: indexed,
  },
  {
    name: 'the index names a tensor that is nowhere',
    edit: reindexed((map) => {
      map['model.layers.9.input_layernorm.weight'] = shards[0];
    }),
    model: indexed,
  },
  {
    name: 'a shard holds a tensor that the index leaves out',
    edit: reindexed((map) => {
      delete map[norm];
    }),
    model: indexed,
  },
  {
    name: 'a shard that the index leaves out',
    edit: reindexed((_, dir) => {
      copyFileSync(path.join(dir, shards[0]), path.join(dir, 'model-00003-of-00002.safetensors'));
    }),
    model: files,
  },
  {
    name: 'a second index (model.fp16.safetensors.index.json)',
    edit: (dir) => put(dir, 'model.fp16.safetensors.index.json', '{}'),
    model: files,
  },
  { name: 'an index that is no JSON', edit: (dir) => put(dir, index, '{'), model: indexed },
  { name: 'an index without weight_map', edit: (dir) => put(dir, index, '{}'), model: indexed },
  {
    name: 'an index that names a number',
    edit: reindexed((map) => {
      map[norm] = 1;
    }),
    model: outside,
  },
];
