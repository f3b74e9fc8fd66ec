"""A checkpoint's chat templates and the texts of its special tokens.

Counterpart of `readTemplates` and `specialTexts` in src/template/source.ts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lockstep.tokenizer.ends import read_tokenizer_settings

#: The template for conversations with tools, below the checkpoint's folder.
TOOLS = Path("additional_chat_templates") / "tool_use.jinja"


@dataclass(frozen=True)
class TemplateSource:
    """text: Jinja source. file: where it is from. special: `bos_token` and so on by name. tools:
    the template for conversations with tools, None where this one is for them, too."""

    text: str
    file: str
    special: Mapping[str, str]
    tools: TemplateSource | None = None


def read_template(folder: str | Path) -> TemplateSource | None:
    """The template of a checkpoint folder, None where it has none. Raises LS_MODEL_CONFIG.

    Files of their own go before `chat_template` of tokenizer_config.json, which may be one template
    or a list of named ones: `default` and `tool_use`.
    """
    file = Path(folder) / "tokenizer_config.json"
    settings = read_tokenizer_settings(Path(folder))
    special = special_texts(settings)

    def of(text: Any, path: Path) -> TemplateSource | None:
        return TemplateSource(text, str(path), special) if isinstance(text, str) else None

    own = [Path(folder) / "chat_template.jinja", Path(folder) / TOOLS]
    usual, tools = (
        of(path.read_text(encoding="utf-8"), path) if path.is_file() else None for path in own
    )
    if usual is None and tools is None:
        value: Any = settings.get("chat_template")
        if isinstance(value, list):
            named = [one for one in value if isinstance(one, dict)]
            usual, tools = (
                of(next((n.get("template") for n in named if n.get("name") == name), None), file)
                for name in ("default", "tool_use")
            )
        else:
            usual = of(value, file)
    return None if usual is None else replace(usual, tools=tools)


def special_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """`*_token` entries of the tokenizer's settings; older files write them as objects."""
    texts = {}
    for name, value in settings.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            texts[name] = content
    return texts
