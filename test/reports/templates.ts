// Chat templates that a renderer other than Jinja2 gets wrong, by the names of the reports.
export const templates: Readonly<Record<string, string>> = {
  'gen-min': "{{- 'a\\n' }}\n{% generation %}\n{{- 'b' }}\n{% endgeneration %}\n{{- 'c' }}",
  crlf: '{% for m in messages %}\r\n<{{ m.role }}>\r\n{{ m.content }}\r\n{% endfor %}\r\n',
  none: "{{ messages[0].content }}|{{ messages[0].get('x') }}|{{ none }}|{{ true }}|{{ ['a'] }}",
  bigint: '{{ 1234567890123456789 }}',
  float1: '{{ 1.0 }} {{ 2.50 }}',
  count: "{{ 'hello'.count('l') }}",
  format: "{{ '%d'|format(3) }}",
  rsplit: "{{ 'a/b/c'.rsplit('/', 1)[1] }}",
  raw: '{% raw %}{{x}}{% endraw %}',
  with: '{% with a=1 %}{{ a }}{% endwith %}',
  iseq: '{{ 1 is eq 1 }}',
};

/** One template that is each of them, by the variable `which`; and `chat` without it. */
export function oneTemplate(chat: string): string {
  const branches = Object.entries(templates).map(
    ([name, text], i) => `{% ${i === 0 ? 'if' : 'elif'} which == '${name}' %}${text}`,
  );
  const thinking =
    '{% if enable_thinking is defined and not enable_thinking %}<no thinking>{% endif %}';
  return `{{ bos_token }}{% if which is defined %}${branches.join('')}{% endif %}{% else %}${chat}${thinking}{% endif %}`;
}
