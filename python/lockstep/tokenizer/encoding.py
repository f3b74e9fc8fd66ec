"""Token ids of texts: the one way from a text to ids in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import LockstepError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

#: Maximum of white-space characters in a row. The patterns of Llama's and Qwen's tokenizers go back
#: over them, and native code panics beyond 10 million. Node has the same limit.
LIMIT = 1 << 22


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text; no special token is added. Raises ``LS_TEXT_UNSPLITTABLE``."""
    return next(token_ids_of_all(tokenizer, [text]))


def token_ids_of_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """`token_ids` of each text, several at a time."""
    return (one.ids for one in encodings(tokenizer, texts))


def encodings(
    tokenizer: Tokenizer, texts: Sequence[str], *, offsets: bool = False
) -> list[Encoding]:
    """Ids of each text; offsets: and the characters that each stands for, which takes longer.

    Raises ``LS_TEXT_UNSPLITTABLE`` for blanks without end, and where native code panics.
    """
    for text in texts:
        _check(text)
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    try:
        return list(encode(list(texts), add_special_tokens=False))
    except BaseException as error:
        # PanicException is no Exception, and its module cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise _unsplittable("a text that the tokenizer can split", str(error)) from None


def _check(text: str) -> None:
    if len(text) <= LIMIT:
        return
    longest = max((len(found.group()) for found in re.finditer(r"\s+", text)), default=0)
    if longest > LIMIT:
        raise _unsplittable(f"at most {LIMIT} white-space characters in a row", str(longest))


def _unsplittable(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_TEXT_UNSPLITTABLE",
        f"expected {expected}, got {got}",
        "Remove the long run of white space, or break it into several texts.",
    )
