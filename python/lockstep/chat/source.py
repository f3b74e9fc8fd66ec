"""A checkpoint's chat template and the texts of its special tokens (twin of `readTemplates` and
`specialTexts` in src/template/source.ts, which knows templates for requests with tools, too)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.tokenizer.ends import read_settings


@dataclass(frozen=True)
class TemplateSource:
    """text: Jinja source. file: where it is from. special: `bos_token` and so on by name."""

    text: str
    file: str
    special: Mapping[str, str]


def read_template(folder: str | Path) -> TemplateSource | None:
    """The template of a checkpoint folder, None where it has none. Raises LS_MODEL_CONFIG."""
    file = Path(folder) / "tokenizer_config.json"
    settings = read_settings(file)
    special = special_texts(settings)
    own = Path(folder) / "chat_template.jinja"
    if own.is_file():
        return TemplateSource(own.read_text(encoding="utf-8"), str(own), special)
    value: Any = settings.get("chat_template")
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default")
    return TemplateSource(value, str(file), special) if isinstance(value, str) else None


def special_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """`*_token` entries of tokenizer_config.json; older files write them as objects."""
    texts = {}
    for name, value in settings.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            texts[name] = content
    return texts
