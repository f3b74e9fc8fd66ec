# ruff: noqa: E501 (templates stand as they are)
"""Chat templates that cover Jinja2's features, and conversations to render with them."""

from __future__ import annotations

from typing import Any

LOOP = "{% for m in messages %}"

TEMPLATES: dict[str, str] = {
    # White space: blocks, their control, comments, line ends.
    "chatml": LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "trimmed": LOOP + "\n  {{- m.role -}}\n  :{{ m.content }}\n{%- endfor %}\nend",
    "lstrip": "  {% if true %}\n    indented\n  {% endif %}\nlast\n",
    "kept-by-plus": "  {%+ if true +%}\n    indented\n  {%+ endif +%}\nlast",
    "comment-lines": "a\n{# one #}\n  {#- two -#}  \nb\n{#\nthree\n#}c",
    "comment-inline": "a {# one #} b {#- two #} c",
    "carriage-returns": LOOP + "\r\n<{{ m.role }}>\r\n{{ m.content }}\r\n{% endfor %}\r\n",
    "lone-return": "a\rb\r{% if true %}\rc{% endif %}",
    "last-newlines": "a\n\n\n",
    "expression-lines": "{{ 'a' }}\n{{ 'b' }}\n  {{ 'c' }}\n",
    "tabs": "\t{% if true %}\n\t\tx\n\t{% endif %}",
    "generation-lines": "{{- 'a\\n' }}\n{% generation %}\n{{- 'b' }}\n{% endgeneration %}\n{{- 'c' }}",
    "generation": LOOP + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}[{{ m.content }}]{% endif %}{% endfor %}",
    "generation-scope": LOOP
    + "{% generation %}{{ loop.index }}{{ m.role }}{% endgeneration %}{% endfor %}",
    "raw": "{% raw %}{{ x }}{% if %}{% endraw %}|{%- raw -%}  y {%- endraw %}",
    # How values are written.
    "none-and-truth": "{{ none }}|{{ true }}|{{ false }}|{{ None }}|{{ messages[0].get('x') }}",
    "contents": LOOP + "{{ m.content }}|{{ m }}\n{% endfor %}",
    "lists": "{{ [1, 'a', none, true, 1.0, 'it\\'s', \"q\\\"\"] }}|{{ (1,) }}|{{ {'a': [], 2: {}} }}",
    "integers": "{{ 1234567890123456789 }}|{{ 2 ** 100 }}|{{ 1_000 }}|{{ 0x1F }}|{{ 0b101 }}|{{ -7 // 2 }}|{{ -7 % 3 }}",
    "floats": "{{ 1.0 }}|{{ 2.50 }}|{{ 1e3 }}|{{ 1e100 }}|{{ 0.1 + 0.2 }}|{{ 7 / 2 }}|{{ 6 / 2 }}|{{ 1e-7 }}|{{ 3 // 2.0 }}",
    "undefined": "[{{ nothing }}]{{ nothing is defined }}{{ nothing|default('d') }}{{ ''|default('e', true) }}",
    "unicode": "{{ 'äöü ß €' }}{{ '\\u00e9\\U0001F600' }}{{ '😀'|length }}{{ 'ǅ'|lower }}{{ 'ß'|upper }}{{ 'ﬁ'|title }}",
    "escapes": "{{ '\\n\\t\\\\\\x41\\'' }}{{ \"\\\"\" }}{{ 'a' 'b' }}",
    # Operators and tests.
    "arithmetic": "{{ 1 + 2 * 3 - 4 / 2 }}|{{ (1 + 2) * 3 }}|{{ 2 ** 3 ** 2 }}|{{ 'ab' * 3 }}|{{ [1] + [2] }}|{{ 'a' ~ 1 ~ none }}",
    "comparison": "{{ 1 < 2 < 3 }}|{{ 1 == 1.0 }}|{{ 'a' < 'b' }}|{{ [1, 2] == [1, 2] }}|{{ not 1 }}|{{ 0 or 'x' }}|{{ '' and 1 }}",
    "membership": "{{ 'a' in 'abc' }}|{{ 1 in [1] }}|{{ 'role' in messages[0] }}|{{ 'x' not in {'x': 1} }}",
    "conditional": "{{ 'a' if messages else 'b' }}|{{ 'c' if false }}|{{ ('d' if 0 else 'e') ~ 'f' }}",
    "slices": "{{ 'hello'[1:3] }}|{{ 'hello'[::-1] }}|{{ [1, 2, 3][-1] }}|{{ messages[1:]|length }}|{{ messages[:-1]|length }}",
    "tests": "{{ 1 is eq 1 }}{{ 2 is odd }}{{ 'a' is string }}{{ [] is sequence }}{{ {} is mapping }}{{ 'a' is iterable }}"
    "{{ 1 is number }}{{ true is boolean }}{{ 1.5 is float }}{{ 3 is divisibleby 3 }}{{ none is none }}{{ 'A' is upper }}"
    "{{ 1 is not none }}{{ 1 is in [1, 2] }}{{ 2 is gt 1 }}{{ 'b' is lower }}{{ 1 is integer }}{{ 'x' is sameas 'x' }}",
    "content-kinds": LOOP
    + "{% if m.content is string %}{{ m.content }}{% elif m.content is sequence %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{% else %}?{% endif %}{% endfor %}",
    # Filters.
    "filters-of-text": "{{ ' a b '|trim }}|{{ 'aXb'|replace('X', '-') }}|{{ 'hello world'|title }}|{{ 'hELLO'|capitalize }}"
    "|{{ 'a'|upper }}|{{ 'abc'|reverse }}|{{ 'x'|center(5) }}|{{ 'a b c'|wordcount }}|{{ 'long text here'|truncate(9) }}",
    "filters-of-lists": "{{ [3, 1, 2]|sort|join(', ') }}|{{ [1, 2, 3]|sum }}|{{ [1, 2, 2]|unique|list }}|{{ [1, 2, 3]|first }}"
    "{{ [1, 2, 3]|last }}|{{ [1, 2, 3, 4]|batch(2)|list }}|{{ range(5)|slice(2)|list }}|{{ [1, none]|length }}|{{ [1, 2]|max }}",
    "filters-of-maps": "{{ {'b': 1, 'a': 2}|dictsort }}|{{ {'b': 1}|items|list }}|{{ messages|map(attribute='role')|join('/') }}"
    "|{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|{{ messages|rejectattr('content')|list|length }}",
    "groupby": "{% for role, some in messages|groupby('role') %}{{ role }}={{ some|length }};{% endfor %}",
    "select-map": "{{ [1, 2, 3, 4]|select('even')|list }}|{{ ['a', 'b']|map('upper')|list }}|{{ [0, 1]|reject|list }}",
    "json": "{{ messages|tojson }}|{{ {'é': 1.0, 'a': '<&>\\''}|tojson }}|{{ [1, {'b': none}]|tojson(indent=2) }}"
    "|{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}|{{ {'é': 1}|tojson(ensure_ascii=true) }}|{{ [1, 2]|tojson(separators=(',', ':')) }}",
    "json-of-tools": "{% if tools %}{{ tools|tojson(indent=4) }}{% for t in tools %}\n{{ t|tojson }}{% endfor %}{% endif %}",
    "formats": "{{ '%d'|format(3) }}|{{ '%s-%05.2f'|format('a', 1.5) }}|{{ '{:>5}|{}'.format('a', none) }}|{{ '%r' % ('x',) }}",
    "numbers-filters": "{{ 3.7|int }}|{{ '12'|int }}|{{ 'x'|int(5) }}|{{ 2.5|round }}|{{ 3.14159|round(2) }}|{{ -3|abs }}|{{ '1.5'|float }}",
    "string-filter": "{{ 1|string + 'a' }}|{{ true|string }}|{{ none|string }}|{{ [1]|string }}|{{ 'a,b'|list }}",
    "escape": "{{ '<a>'|e }}|{{ '<a>'|safe }}|{{ '<b>x</b>'|striptags }}|{{ 'a b'|urlencode }}|{{ 'http://a.b c'|urlize }}",
    "indent": "{{ 'a\\nb\\n\\nc'|indent(4) }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a b c d'|wordwrap(3) }}|{{ {'a': 1}|pprint }}",
    "xmlattr": "{{ {'a': 1, 'b': none, 'c': '<'}|xmlattr }}|{{ 1000000|filesizeformat }}",
    # Methods of Python's values.
    "methods-of-text": "{{ 'a/b/c'.rsplit('/', 1)[1] }}|{{ 'a b'.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'hello'.count('l') }}"
    "|{{ ' x '.strip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ 'abc'.startswith('a') }}|{{ 'abc'.find('c') }}|{{ 'a'.join(['1', '2']) }}",
    "more-methods": "{{ 'a\\nb'.splitlines() }}|{{ 'abc'.partition('b') }}|{{ 'a'.zfill(3) }}|{{ 'Abc'.swapcase() }}|{{ 'abc'.removeprefix('a') }}"
    "|{{ 'abc'.index('b') }}|{{ '12'.isdigit() }}|{{ 'ab'.replace('a', 'c', 1) }}|{{ 'aé'.encode() }}|{{ 'x'.ljust(3) }}|",
    "methods-of-maps": "{{ messages[0].keys()|list }}|{{ messages[0].items()|list }}|{{ messages[0].values()|list|length }}"
    "|{{ messages[0].get('role') }}|{{ messages[0].get('z', 'no') }}|{{ [1, 2, 1].count(1) }}|{{ [1, 2].index(2) }}|{{ (255).bit_length() }}",
    "thinking": LOOP
    + "{% if '</think>' in m.content|string %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}",
    # Statements.
    "loop-values": LOOP
    + "{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.cycle('a', 'b') }}{{ loop.previtem.role if not loop.first }}{{ loop.nextitem.role if not loop.last }};{% endfor %}",
    "loop-else": "{% for x in [] %}a{% else %}none{% endfor %}{% for x in [1, 2, 3] if x > 1 %}{{ x }}/{{ loop.length }} {% endfor %}",
    "loop-controls": LOOP
    + "{% if loop.index == 1 %}{% continue %}{% endif %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "loop-recursive": "{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% endif %}{% endfor %}",
    "loop-changed": LOOP + "{% if loop.changed(m.role) %}{{ m.role }}{% endif %}{% endfor %}",
    "unpacking": "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}{% set x, y = 1, 2 %}{{ x + y }}",
    "namespace": "{% set ns = namespace(found=false, n=0) %}" + LOOP + "{% set ns.n = ns.n + 1 %}"
    "{% if m.role == 'system' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}",
    "scopes": "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}",
    "set-block": "{% set text %}\n  a {{ messages|length }}\n{% endset %}[{{ text }}]{% set up | upper %}b{% endset %}{{ up }}",
    "with": "{% with a=1, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% with %}{% set q = 2 %}{{ q }}{% endwith %}{{ q }}",
    "macro": "{% macro show(m, end='!', *rest, **more) %}{{ m.role }}{{ end }}{{ rest }}{{ more }}{% endmacro %}"
    + LOOP
    + "{{ show(m) }}{{ show(m, '?', 1, k=2) }}{% endfor %}{{ show.name }}{{ show.arguments }}",
    "call": "{% macro box(title) %}<{{ title }}>{{ caller(1) }}</{{ title }}>{% endmacro %}{% call(n) box('t') %}in{{ n }}{% endcall %}",
    "macro-spaces": "{%- macro f(x) -%}\n  {{ x }}\n{%- endmacro -%}\n{{ f('a') }}\n{{ f('b') }}\n",
    "filter-block": "{% filter upper %}\n  a{{ messages|length }}\n{% endfilter %}{% filter trim|replace('b', 'c') %} b {% endfilter %}",
    "do-not": "{% if not messages %}a{% elif messages|length > 1 %}b{% else %}c{% endif %}",
    "blocks": "{% block body %}a{{ messages|length }}{% endblock %}{{ self.body() }}",
    "autoescape": "{% autoescape true %}{{ '<a>' }}{% endautoescape %}{{ '<b>' }}",
    "import-self": "{% macro f() %}{{ bos_token }}{% endmacro %}{{ f() }}",
    "globals": "{{ range(3)|list }}{{ range(1, 10, 3)|list }}{{ dict(a=1, b='x') }}{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}"
    "{% set j = joiner('|') %}{{ j() }}x{{ j() }}y",
    "specials": "[{{ bos_token }}][{{ eos_token }}][{{ pad_token }}][{{ documents }}][{{ add_generation_prompt }}]",
    # What real templates do.
    "llama3-like": "{%- set loop_messages = messages %}" + "{%- for message in loop_messages %}"
    "{%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content']|string|trim + '<|eot_id|>' %}"
    "{%- if loop.index0 == 0 %}{%- set content = bos_token|default('') + content %}{%- endif %}{{- content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}",
    "alternating": LOOP
    + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate: ' ~ m.role) }}"
    "{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}",
    "qwen-like": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n        {{- messages[0].content + '\\n\\n' }}\n"
    '    {%- endif %}\n    {{- "# Tools\\n\\n<tools>" }}\n    {%- for tool in tools %}\n        {{- "\\n" }}\n        {{- tool | tojson }}\n'
    '    {%- endfor %}\n    {{- "\\n</tools><|im_end|>\\n" }}\n{%- endif %}\n'
    "{%- for message in messages %}\n    {%- if message.tool_calls %}\n        {%- for call in message.tool_calls %}\n"
    "            {%- if call.function %}\n                {%- set call = call.function %}\n            {%- endif %}\n"
    '            {{- \'<tool_call>\\n{"name": "\' }}\n            {{- call.name }}\n            {{- \'", "arguments": \' }}\n'
    "            {{- call.arguments | tojson }}\n            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n"
    "    {%- elif message.role == \"tool\" %}\n        {{- '<tool_response>' ~ message.content ~ '</tool_response>' }}\n"
    "    {%- else %}\n        {{- message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n",
    "mistral-like": "{{ bos_token }}"
    + LOOP
    + "{% if m.tool_calls is defined and m.tool_calls is not none %}[TOOL_CALLS] ["
    '{% for c in m.tool_calls %}{% set out = c.function|tojson %}{{ out[:-1] }}, "id": "{{ c.id }}"}{% if not loop.last %}, {% endif %}'
    "{% endfor %}]{{ eos_token }}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "arguments-by-name": LOOP
    + "{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments.items() %}<{{ k }}>{{ v if v is string else v|tojson }}"
    "</{{ k }}>{{ v }}{% endfor %}{% endfor %}{% endfor %}",
    "options": "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}{{ level|default('low') }}",
    # What cannot be read or run: refused by both.
    "broken-syntax": "a\n{% if messages %}",
    "broken-tag": "{% nonsense %}",
    "broken-filter": "{{ 'a'|nonsense }}",
    "broken-at-run": "a\nb {{ messages.nothing.more }}",
    "broken-type": "{{ 'a' + 1 }}",
    "sandboxed": "{{ ''.__class__.__mro__ }}",
    "sandboxed-change": "{% set x = [] %}{{ x.append(1) }}",
    "sandboxed-range": "{{ range(1000000)|list }}",
    "sandboxed-format": "{{ '{0.__class__}'.format(1) }}",
    "imports": "{% include 'x' %}",
}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "It's <the> weather & ünïcode",
            "parameters": {
                "type": "object",
                "properties": {"2": {"type": "number", "default": 1.0}, "1": {"enum": ["a", None]}},
                "required": ["2"],
                "maximum": 12345678901234567890,
            },
        },
    }
]


def _called(arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": "call00001", "type": "function", "function": function}


CONVERSATIONS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [{"role": "user", "content": "Tell me of the sea."}]},
    "system": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "<think>\nwell\n</think>\n\nHello, it's me."},
            {"role": "user", "content": "And?", "name": "Anna"},
        ]
    },
    "tools": {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    _called({"2": 1.0, "1": 2512292042121000001, "b": [True, None, "é"], "s": "x"})
                ],
            },
            {"role": "tool", "content": '{"t": 1.0}', "tool_call_id": "call00001"},
        ],
        "tools": TOOLS,
    },
    "unicode": {
        "messages": [
            {"role": "user", "content": "Ünïcödé 😀 \u2028 \u00a0 日本 \x00 ½ \ufeff"},
            {"role": "assistant", "content": "ǅ ß ﬁ ̈"},
        ]
    },
    "line-ends": {"messages": [{"role": "user", "content": "\r\na\r\nb\rc\n\n  "}]},
    "no-content": {
        "messages": [
            {"role": "user", "content": None},
            {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": None},
        ]
    },
    "parts": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            }
        ]
    },
    "options": {
        "messages": [{"role": "user", "content": "x"}],
        "chat_template_kwargs": {"enable_thinking": False, "level": 1.0},
    },
}
