"""Jinja2 as transformers sets it up for chat templates, and nothing else.

The environment of transformers.utils.chat_template_utils (5.19): its sandbox, options, `tojson`,
`raise_exception`, `strftime_now`, loop controls and `{% generation %}`. A test holds the two
together. It imports Jinja2 and the standard library alone: it runs in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

Span = tuple[int, int]  # characters [start, end) of the rendered text


class Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: records where an assistant's words stand."""

    tags = {"generation"}  # noqa: RUF012 (Jinja2's own way)

    def __init__(self, environment: jinja2.Environment):
        super().__init__(environment)
        self.blocks: list[str] | None = None
        self.spans: list[Span] = []

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_record"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _record(self, _context: nodes.EvalContext, caller: Any) -> str:
        text = str(caller())
        if self.blocks is not None:
            start = sum(map(len, self.blocks))
            self.spans.append((start, start + len(text)))
        return text


def compiled(source: str) -> jinja2.Template:
    """A template. Raises jinja2.TemplateSyntaxError."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def render(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    """The text of a conversation."""
    return template.render(**context)


def render_marked(template: jinja2.Template, context: Mapping[str, Any]) -> tuple[str, list[Span]]:
    """The text, and where its `{% generation %}` blocks stand."""
    marks: Any = template.environment.extensions[Generation.identifier]
    marks.blocks, marks.spans = [], []
    try:
        for block in template.generate(**context):
            marks.blocks.append(block)
        return "".join(marks.blocks), marks.spans
    finally:
        marks.blocks = None


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
