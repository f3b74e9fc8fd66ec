// A checkpoint with what the reports say of tokenizers, ends, BOS and templates, all at once.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeCheckpoint, makeModel } from '../clients/checkpoint.ts';
import { oneTemplate } from './templates.ts';

/** The end that tokenizer_config.json alone names, and the one of config.json and generation_config.json. */
export const ends = { tokenizer: 2, config: 0 };
const BOS = '<|endoftext|>';

const truncation = { direction: 'Right', max_length: 64, strategy: 'LongestFirst', stride: 0 };
const padding = {
  strategy: { Fixed: 64 },
  direction: 'Right',
  pad_to_multiple_of: null,
  pad_id: 1,
  pad_type_id: 0,
  pad_token: '<|im_start|>',
};
const addsBos = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { [BOS]: { id: BOS, ids: [0], tokens: [BOS] } },
};

export async function makeReported(folder: string): Promise<string> {
  const model = await makeModel(path.join(folder, 'model'));
  const edit = (name: string, change: object): void => {
    const file = path.join(model, name);
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
  };
  edit('tokenizer.json', { truncation, padding, post_processor: addsBos });
  edit('tokenizer_config.json', { eos_token: '<|im_end|>', bos_token: BOS, add_bos_token: true });
  edit('config.json', { eos_token_id: ends.config });
  writeFileSync(
    path.join(model, 'generation_config.json'),
    JSON.stringify({ eos_token_id: ends.config }),
  );
  const chat = path.join(model, 'chat_template.jinja');
  writeFileSync(chat, oneTemplate(readFileSync(chat, 'utf8')));
  mkdirSync(path.join(model, 'additional_chat_templates'));
  writeFileSync(
    path.join(model, 'additional_chat_templates', 'tool_use.jinja'),
    '{{ bos_token }}<tools>{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}',
  );
  return makeCheckpoint(model, path.join(folder, 'reported'));
}
