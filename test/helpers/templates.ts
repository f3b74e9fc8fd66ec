// Small chat templates in the manner of model families.

/** Template, special tokens, and the texts that it writes around an answer. */
export interface Family {
  template: string;
  added: readonly string[];
  header: string;
  end: string;
}

export const families: Readonly<Record<string, Family>> = {
  ChatML: {
    template: `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`,
    added: [],
    header: '<|im_start|>assistant\n',
    end: '<|im_end|>\n',
  },
  'a header after every conversation': {
    template: `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}`,
    added: [],
    header: '<|im_end|>\n<|im_start|>assistant\n',
    end: '<|im_end|>\n<|im_start|>user\n',
  },
  'Llama 3': {
    template: `{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}`,
    added: ['<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'],
    header: '<|start_header_id|>assistant<|end_header_id|>\n\n',
    end: '<|eot_id|>',
  },
  // The last answer shows an empty thought, those before it none.
  'Qwen 3': {
    template: `{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{% set content = m.content.split('</think>')[-1].lstrip('\\n') %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.index0 > ns.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`,
    added: ['<think>', '</think>'],
    header: '<|im_start|>assistant\n',
    end: '<|im_end|>\n',
  },
  // The prompt opens a thought, the history shows none: one cut, before the thought.
  'a prompt that opens a thought': {
    template: `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}`,
    added: ['<think>'],
    header: '<|im_start|>assistant\n',
    end: '<|im_end|>\n',
  },
  // No system's message, and the question's own end opens the answer.
  Mistral: {
    template: `{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + '</s>' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}`,
    added: ['<s>', '</s>', '[INST]', '[/INST]'],
    header: '[/INST]',
    end: '</s>',
  },
  'Mistral with marks of several tokens': {
    template: `{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + '</s>' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}`,
    added: ['<s>', '</s>'],
    header: '[/INST]',
    end: '</s>',
  },
  // All of it text; the end of an answer is known by the next question's name.
  'names and colons': {
    template: `{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}`,
    added: [],
    header: 'ASSISTANT:',
    end: '\nUSER:',
  },
};
