// lockstep.json, plainly and with its digest made right again; and the files it names by their sums.
import { digestOf } from '../../src/contract/index.ts';
import { changed, type Document, type Edit, removed, rewritten, set } from './edit.ts';

const file = 'lockstep.json';

function sealed(name: string, change: (contract: Document) => void): Edit {
  return changed(file, `${name}, digest recomputed`, (contract: Document) => {
    change(contract);
    contract.digest = digestOf(contract);
  });
}

export const contractEdits: readonly Edit[] = [
  changed(file, '`carry.size`', (contract) => {
    contract.carry.size += 1;
  }),
  changed(file, '`tables`', (contract) => {
    contract.tables = [1];
  }),
  changed(file, '`model.rope.theta`', (contract) => {
    contract.model.rope.theta = 20000;
  }),
  changed(file, '`tokenizer.ends`', (contract) => {
    contract.tokenizer.ends = [];
  }),
  rewritten(file, '`carry.size`: `8.0` for `8`', (text) =>
    text.replace(/("size":\s*8)(?=\D)/, '$1.0'),
  ),
  changed(file, '`carry.size`: `8.5`', (contract) => {
    contract.carry.size = 8.5;
  }),
  changed(file, 'an unknown field', (contract) => {
    contract.carry.more = 1;
  }),
  changed(file, '`segment.max` as text', (contract) => {
    contract.segment.max = '48';
  }),
  set(file, 'model', undefined),
  set(file, 'lockstep', 1),
  set(file, 'lockstep', 3),
  set(file, 'digest', 'f'.repeat(64)),
  changed(file, '`training.truncation`', (contract) => {
    contract.training.truncation = 3;
  }),
  sealed('`model.rope.theta`', (contract) => {
    contract.model.rope.theta = 20000;
  }),
  sealed('`model.tied`', (contract) => {
    contract.model.tied = false;
  }),
  sealed('`model.layers`', (contract) => {
    contract.model.layers = 5;
  }),
  sealed('`tokenizer.ends`', (contract) => {
    contract.tokenizer.ends = [0, 5];
  }),
  sealed('`tokenizer.size`', (contract) => {
    contract.tokenizer.size += 1;
  }),
  sealed('one layer less in `heads.long`', (contract) => {
    contract.heads.long.pop();
  }),
  sealed('a KV head that is not there in `heads.long`', (contract) => {
    contract.heads.long[3] = [0, 9];
  }),
  sealed('a layer that is not there in `retrieval.layers`', (contract) => {
    contract.retrieval.layers = [1, 7];
  }),
  sealed('`segment.max`', (contract) => {
    contract.segment.max = 24;
  }),
  sealed('a boundary of `golden`', (contract) => {
    contract.golden[0].boundaries[1] = 7;
  }),
  rewritten(file, 'cut off', (text) => text.slice(0, -20)),
  removed(file),
  rewritten('policy.js', 'a comment more', (text) => `${text}// mine\n`),
  removed('policy.js'),
  rewritten('tokenizer.json', 'a space more', (text) => `${text} `),
  removed('tokenizer.json'),
  set('generation_config.json', 'eos_token_id', [0, 2]),
  set('generation_config.json', 'eos_token_id', 'two'),
  set('generation_config.json', 'temperature', 0.5),
  rewritten('generation_config.json', 'no JSON', () => '{'),
  set('tokenizer_config.json', 'eos_token', '<|im_end|>'),
  set('tokenizer_config.json', 'eos_token', { content: '<|endoftext|>' }),
  set('tokenizer_config.json', 'eos_token', 5),
];
