"""What a checkpoint takes over from the model that its training began with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

# What belongs to the tokenizer and to how the model is prompted and licensed.
NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)
POLICY = "policy.js"


def read(model: Path) -> dict[str, bytes]:
    """Content by name of those files of ``model`` that exist, and of its contract's policy.

    Read once, when a training starts: the directory that it starts from need not live as long.
    """
    names = [name for name in (*NAMES, POLICY) if (model / name).is_file()]
    return {name: (model / name).read_bytes() for name in names}


def write(directory: Path, files: Mapping[str, bytes], without: Collection[str] = ()) -> None:
    """Put what `read` returned into ``directory``, some names aside."""
    for name, content in files.items():
        if name not in without:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
