// Every case of the public reports, and the tests that show what is right.

/** A test: its file below test/, and words of its title. */
export type Shown = readonly [file: string, title: string];

/** A case that the engines are asked: a name in requests.ts, shown on all three. */
export const engines = (...names: string[]): Shown[] =>
  names.flatMap((name) => [
    ['reports/requests.ts', name],
    ['reports/engines.test.ts', 'both alike'],
    ['vllm/reports.test.ts', 'vLLM and torch alike'],
  ]);

const rendered = (name: string): Shown[] => [
  ['reports/templates.ts', name],
  ['reports/engines.test.ts', 'both alike'],
  ['vllm/reports.test.ts', 'vLLM and torch alike'],
  ['python/test_template_equal.py', 'test_a_template_of_every_feature'],
];
const data = (title: string): Shown[] => [['python/test_report_data.py', title]];

export const table: Readonly<Record<string, readonly Shown[]>> = {
  // Weights, tokenizers, ends
  'truncation in tokenizer.json': [
    ...engines('truncation: a long text'),
    ['python/test_encoding.py', 'test_limits_of_a_training_of_before'],
    ['python/test_encoding.py', 'test_a_corpus_is_whole'],
    ['python/test_encoding.py', 'test_one_place_opens_tokenizers'],
  ],
  'padding in tokenizer.json': [
    ...engines('padding: a short text'),
    ['python/test_encoding.py', 'test_limits_of_a_training_of_before'],
  ],
  'ends that the files name differently': [
    ...engines('an end of tokenizer_config alone', 'the end of config and generation_config'),
    ['ends.test.ts', 'its contract names that token, and so has another digest'],
    ['ends.test.ts', 'onnx and torch end answers at the same token'],
    ['vllm/test_scheduler.py', 'test_an_answer_ends_where_the_contract_says'],
  ],
  'tied weights with another head': [
    ['edits/weight-tensors.ts', 'tied, and another head'],
    ['python/test_weights.py', 'test_a_head_of_equal_bytes_is_tied_when_loaded'],
  ],
  'an old model.safetensors beside an index and its shards': [
    ['edits/weight-files.ts', 'one file and a sharded set of others'],
  ],
  'BOS of the tokenizer and of the template': [
    ...engines('BOS of a chat'),
    ['bos.test.ts', 'the tokenizer adds it'],
    ['bos.test.ts', 'where the template writes BOS and texts begin without it'],
  ],
  'Qwen2 of which no layer slides': [
    ['python/test_sliding.py', 'test_a_qwen2_of_which_no_layer_slides'],
  ],
  'Mistral without the key sliding_window': [
    ['python/test_sliding.py', 'test_a_mistral_that_does_not_say'],
    ['attach.test.ts', 'a Mistral that does not say'],
  ],
  // Chat templates
  'gen-min': rendered('gen-min'),
  crlf: rendered('crlf'),
  none: rendered('none'),
  bigint: rendered('bigint'),
  float1: rendered('float1'),
  count: rendered('count'),
  format: rendered('format'),
  rsplit: rendered('rsplit'),
  raw: rendered('raw'),
  with: rendered('with'),
  iseq: rendered('iseq'),
  'a template that cannot be read': [
    [
      'server-template.test.ts',
      'cannot be read refuses chats with its file and line; completions go on',
    ],
  ],
  'the template tool_use': [
    ...engines('the template tool_use'),
    ['templates.test.ts', 'a list of them'],
    ['templates.test.ts', 'files for both'],
  ],
  // Messages that clients send
  'a replayed answer': [
    ...engines('a replayed answer', 'tool_calls: []'),
    ['clients/clients.test.ts', 'the %s client'],
    ['vllm/clients.test.ts', 'the %s client'],
  ],
  'role: tool with text parts': engines('role: tool with text parts'),
  'messages[].name': engines('messages[].name'),
  'role developer': engines('role developer'),
  cache_control: engines('cache_control'),
  'stream_options.include_obfuscation': engines('stream_options.include_obfuscation'),
  'tool_choice and parallel_tool_calls without tools': engines(
    'tool_choice: auto without tools',
    'parallel_tool_calls: true without tools',
  ),
  chat_template_kwargs: engines('chat_template_kwargs'),
  'logprobs: 1 of a token that is not the best': [
    ['server-messages.test.ts', 'logprobs hold the token that was drawn, be it the best or not'],
    ['reports/engines.test.ts', '%s'],
    ['vllm/reports.test.ts', 'vLLM and torch alike'],
  ],
  // Data files
  'msgs.jsonl': data('test_conversations'),
  'eos.jsonl': data('test_documents_end_with_their_end'),
  'rows.csv': data('test_a_table_by_its_column'),
  'z.jsonl.gz': data('test_compressed_files'),
  'z.jsonl.zst': data('test_compressed_files'),
  'bom.txt': [
    ...data('test_a_byte_order_mark'),
    [
      'python/test_training_data_formats.py',
      'test_a_byte_order_mark_is_no_part_of_a_text_for_other_readers',
    ],
    [
      '../src/tokenizer/tokenizer.test.ts',
      'characters are never split, whatever the size of the pieces',
    ],
  ],
};
