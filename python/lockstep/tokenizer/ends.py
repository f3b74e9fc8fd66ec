"""The ids that end an answer (counterpart of src/tokenizer/ends.ts)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..contract.shape_fields import show
from ..errors import LockstepError
from ..json_text import loads


def read_ends(
    folder: Path, config: Mapping[str, Any], size: int, tokenizer_sha256: str
) -> list[int]:
    """What tokenizer_config, config and generation_config say together, ascending, each id once.

    Ids beyond ``size`` rows of the embedding, which no model can write, are left out.
    ``tokenizer_sha256``: of the folder's tokenizer.json, which is parsed once a process.

    Raises ``LS_MODEL_CONFIG`` for what is neither an id nor a list of ids, or no token's text.
    """
    generation = read_settings(folder / "generation_config.json")
    text = _end_text(read_tokenizer_settings(folder).get("eos_token"))
    ids = _ids(config.get("eos_token_id"), "config.json")
    ids += _ids(generation.get("eos_token_id"), "generation_config.json")
    if text is not None:
        found = _token_id(folder / "tokenizer.json", tokenizer_sha256, text)
        ids += [] if found is None else [found]
    return sorted({token for token in ids if 0 <= token < size})


@lru_cache(maxsize=16)
def _token_id(file: Path, _sha256: str, text: str) -> int | None:
    document = loads(file.read_bytes())
    for added in document.get("added_tokens") or []:
        if added["content"] == text:
            return int(added["id"])
    vocab = (document.get("model") or {}).get("vocab") or {}
    if isinstance(vocab, Mapping):
        found = vocab.get(text)
        return None if found is None else int(found)
    return next((at for at, (piece, *_) in enumerate(vocab) if piece == text), None)


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint, {} where there is none. Raises ``LS_MODEL_CONFIG``."""
    try:
        value = loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _bad(f"a JSON object in {file}", str(error)) from error
    if isinstance(value, dict):
        return value
    raise _bad(f"a JSON object in {file}", show(value)[:40])


def read_tokenizer_settings(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says, and special_tokens_map.json of older checkpoints.

    As transformers does, its entries go before where tokenizer_config.json has no
    ``added_tokens_decoder``. Raises ``LS_MODEL_CONFIG``.
    """
    settings = read_settings(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    return {**settings, **read_settings(folder / "special_tokens_map.json")}


def _ids(value: Any, file: str) -> list[int]:
    if value is None:
        return []
    ids = value if isinstance(value, list) else [value]
    if all(type(one) is int for one in ids):
        return list(ids)
    raise _bad(f"an id or a list of ids for eos_token_id in {file}", show(value), "eos_token_id")


def _end_text(value: Any) -> str | None:
    """Text of ``eos_token``; older files write an object."""
    if value is None:
        return None
    text = value.get("content") if isinstance(value, dict) else value
    if isinstance(text, str):
        return text
    raise _bad("a text for eos_token in tokenizer_config.json", show(value), "eos_token")


def _bad(expected: str, got: str, field: str | None = None) -> LockstepError:
    return LockstepError(
        "LS_MODEL_CONFIG",
        f"expected {expected}, got {got}",
        "Copy the file again from the original checkpoint.",
        field,
    )
