"""A checkpoint's tokenizer.json, checked before it is handed to native code (counterpart of
src/tokenizer/check.ts). The one place in Python that opens such a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LockstepError
from .pattern import RULES, pattern_name, pattern_problem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TRUSTING = "LOCKSTEP_TRUST_PATTERNS"


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder; ids are computed by `encoding`.

    What the file says of truncation and padding (a limit of some training of before, which
    transformers saves with it) is not taken over: no text is shortened or filled up here.

    Raises ``LS_TOKENIZER_MISSING`` without a readable one; ``LS_TOKENIZER_UNSUPPORTED``,
    ``LS_TOKENIZER_PATTERN``, ``LS_TOKENIZER_SIZE`` for what could stop or flood this process.
    """
    from tokenizers import Tokenizer

    file = Path(folder) / "tokenizer.json"
    try:
        value = json.loads(file.read_bytes())
        check_tokenizer(value, file)
        # Serialized again: native code could read the other value of a duplicate key.
        tokenizer = Tokenizer.from_str(json.dumps(value))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    except LockstepError:
        raise
    except Exception as error:
        raise LockstepError(
            "LS_TOKENIZER_MISSING",
            f"expected a tokenizer in {file}, got: {error}",
            "Copy tokenizer.json again from the original checkpoint.",
        ) from error


def check_tokenizer(value: Any, file: str | Path) -> None:
    """Raises ``LS_TOKENIZER_UNSUPPORTED``, ``LS_TOKENIZER_PATTERN``, ``LS_TOKENIZER_SIZE``."""
    parts = value if isinstance(value, dict) else {}
    for slot in RULES["types"]:
        _walk(parts.get(slot), slot, slot, file)
    model = parts.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise _unsupported(f"expected a model with a vocabulary in {file}, got none", "model")
    if model.get("dropout") not in (None, 0):
        got = json.dumps(model["dropout"])
        raise _unsupported(
            f"expected no dropout in {file}, got {got}: ids would differ", "model.dropout"
        )
    # With one, a merge may end inside a character, and the tokenizers package panics.
    if model.get("continuing_subword_prefix") not in (None, ""):
        raise _unsupported(
            f"expected no continuing_subword_prefix in {file}, "
            f"got {json.dumps(model['continuing_subword_prefix'])}",
            "model.continuing_subword_prefix",
        )
    _check_sizes(model["vocab"], parts.get("added_tokens"), file)


def _walk(part: Any, slot: str, field: str, file: str | Path) -> None:
    if part is None:
        return
    kinds = RULES["types"][slot]
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in kinds:
        raise _unsupported(
            f"expected {field}.type to be one of {', '.join(kinds)} in {file}, "
            f"got {json.dumps(kind)}",
            field,
        )
    if slot == "model":
        return
    if slot == "normalizer":
        _refuse_empty(part, field, file)
    for name, inner in part.items():
        at = f"{field}.{name}"
        if isinstance(inner, dict) and isinstance(inner.get("Regex"), str):
            _check_pattern(inner["Regex"], at, file)
        if isinstance(inner, list) and kind == "Sequence":
            for i, one in enumerate(inner):
                _walk(one, slot, f"{at}[{i}]", file)


def _refuse_empty(part: dict[str, Any], field: str, file: str | Path) -> None:
    """The tokenizers package panics where a normalizer takes a text away or adds nothing."""
    kind, pattern = part["type"], part.get("pattern")
    empty = None
    if kind == "Prepend" and part.get("prepend") == "":
        empty = "prepend"
    elif kind == "Replace" and part.get("content") == "":
        empty = "content"
    elif kind == "Replace":
        # A regular expression may match nothing, at the end of a text too.
        text = pattern.get("String") if isinstance(pattern, dict) else None
        if not isinstance(text, str) or text == "":
            empty = "pattern"
    if empty is not None:
        raise _unsupported(
            f"expected a text at {field}.{empty} of {file}, got {json.dumps(part.get(empty))}",
            f"{field}.{empty}",
        )


def _check_pattern(pattern: str, field: str, file: str | Path) -> None:
    problem = pattern_problem(pattern)
    name = pattern_name(pattern)
    trusted = [one.strip() for one in os.environ.get(TRUSTING, "").split(",")]
    if problem is None or name in trusted:
        return
    shown = pattern if len(pattern) <= 120 else pattern[:120] + "…"
    raise LockstepError(
        "LS_TOKENIZER_PATTERN",
        f"expected a regular expression that runs in linear time at {field} of {file}, "
        f"got {shown}: {problem}",
        "Such a pattern can stop the whole process on a short text; if you trust its source "
        f"and accept that: {TRUSTING}={name}",
        field,
    )


def _check_sizes(vocab: Any, added: Any, file: str | Path) -> None:
    tokens = added if isinstance(added, list) else []
    given = [] if isinstance(vocab, list) else list(vocab.values())
    ids = given + [token.get("id") if isinstance(token, dict) else None for token in tokens]
    for one in ids:
        if not isinstance(one, int) or isinstance(one, bool) or one < 0:
            raise _size("ids that are whole numbers", json.dumps(one), "model.vocab", file)
    texts = [token.get("content") for token in tokens]
    for text in texts:
        if not isinstance(text, str) or text == "":
            raise _size("a text", json.dumps(text), "added_tokens", file)
    largest = max([len(vocab) - 1 if isinstance(vocab, list) else 0, *ids])
    if largest >= RULES["ids"]:
        raise _size(f"ids below {RULES['ids']}", largest, "model.vocab", file)
    most = RULES["addedTokens"]
    if len(tokens) > most:
        raise _size(f"at most {most} added tokens", len(tokens), "added_tokens", file)
    characters = sum(len(text.encode("utf-16-le", "surrogatepass")) // 2 for text in texts)
    most = RULES["addedCharacters"]
    if characters > most:
        expected = f"at most {most} characters of added tokens"
        raise _size(expected, characters, "added_tokens", file)


def _size(expected: str, got: Any, field: str, file: str | Path) -> LockstepError:
    return LockstepError(
        "LS_TOKENIZER_SIZE",
        f"expected {expected} in {file}, got {got}",
        "Copy tokenizer.json again from the original checkpoint.",
        field,
    )


def _unsupported(message: str, field: str) -> LockstepError:
    return LockstepError(
        "LS_TOKENIZER_UNSUPPORTED",
        message,
        "Use a Llama, Qwen or Mistral checkpoint with its own tokenizer.json.",
        field,
    )
