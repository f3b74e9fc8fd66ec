"""Copy mass: which KV heads answers come through, seen by full attention.

A needle in a text is asked for at its end, and the answer given. The score of a KV head is the
share of probability that the queries predicting the value's tokens give to the needle's value, and
to the token before it; of its query heads the largest, then the mean over needles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.needles.documents import Document, DocumentMaker, Wrap
from lockstep.needles.templates import KINDS
from lockstep.operator import lm_head
from lockstep.operator.model import Model
from lockstep.operator.rope import rotate
from lockstep.tokenizer.file import load_tokenizer

Scores = tuple[list[list[float]], dict[str, Any]]
STRIDE = 7  # of depths from one sequence to the next
SHORTEST = 160  # tokens that a shorter trial has at least


class CopyContext:
    """Full causal attention of one sequence that looks at where some of its queries look."""

    def __init__(self, model: Model, length: int, queries: range, keys: range):
        self._cos_TD, self._sin_TD = model.rope.rows(0, length)
        self._rows, self._keys = queries, keys
        self.mass_LH = torch.zeros(
            len(model.layout.layers), model.layout.kv_heads, dtype=torch.float64
        )

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        H = len(k_HTD)
        q_HgTD = rotate(q_HTD, self._cos_TD, self._sin_TD).unflatten(0, (H, -1))
        k_HTD = rotate(k_HTD, self._cos_TD, self._sin_TD)
        rows_n = torch.arange(self._rows.start, self._rows.stop, device=k_HTD.device)
        logits_HgnT = torch.einsum("hgnd,htd->hgnt", q_HgTD[:, :, rows_n], k_HTD) * scale
        ahead_nT = torch.arange(k_HTD.shape[1], device=k_HTD.device) > rows_n[:, None]
        p_HgnT = logits_HgnT.masked_fill_(ahead_nT, -torch.inf).softmax(-1)
        share_Hg = p_HgnT[..., self._keys.start : self._keys.stop].double().sum(-1).mean(-1)
        self.mass_LH[layer] = share_Hg.amax(1).cpu()
        g = q_HgTD.shape[1]
        k_HgTD, v_HgTD = (x[:, None].expand(-1, g, -1, -1) for x in (k_HTD, v_HTD))
        out_HgTD = scaled_dot_product_attention(q_HgTD, k_HgTD, v_HgTD, is_causal=True, scale=scale)
        return out_HgTD.flatten(0, 1)


@dataclass(frozen=True)
class CopyMass:
    """mass_LH: copy mass of one needle [L, H]; recalled: the model names its value."""

    mass_LH: Tensor
    recalled: bool


@torch.no_grad()
def measure(model: Model, document: Document) -> CopyMass:
    """A document's first needle, by one pass of full attention."""
    start, needle = len(document.ids), document.needles[0]
    ids_T = torch.tensor([*document.ids, *needle.tail], device=model.device)
    queries = range(start + needle.answer.start - 1, start + needle.answer.stop - 1)
    keys = range(max(0, needle.span.start - 1), needle.span.stop)
    context = CopyContext(model, len(ids_T), queries, keys)
    hidden_TE = model.forward(ids_T, context)
    logits_tV = lm_head.logits(model.head, hidden_TE[queries.start : queries.stop])
    wanted_t = ids_T[queries.start + 1 : queries.stop + 1]
    return CopyMass(context.mass_LH, bool((logits_tV.argmax(-1) == wanted_t).all()))


def run(model: Model, drawn: list[Any], asked: dict[str, Any], partial: Any) -> Scores:
    """Copy mass of every KV head and ``{recalled, needles}``, over the first ``asked["needles"]``
    of the drawn sequences; continues from what ``partial`` holds.

    Raises ``LS_PROFILE_RECALL`` where full attention recalls none of them.
    """
    texts = Texts(model, drawn[: asked["needles"]], asked)
    shape = len(model.layout.layers), model.layout.kv_heads
    state = partial.read() or {"done": 0, "recalled": 0, "mass": torch.zeros(shape).tolist()}
    total_LH = torch.tensor(state["mass"], dtype=torch.float64)
    recalled, begun, count = state["recalled"], state["done"], len(texts.drawn)
    job.emit("progress", stage="recall", done=begun, total=count)
    for n in range(begun, count):
        job.check_cancelled()
        seen = measure(model, texts.document(n, asked["length"]))
        total_LH, recalled = total_LH + seen.mass_LH, recalled + seen.recalled
        partial.write({"done": n + 1, "recalled": recalled, "mass": total_LH.tolist()})
        job.emit("progress", stage="recall", done=n + 1, total=count)
    if not recalled:
        raise _recalls_nothing(model, texts, asked["length"])
    return (total_LH / count).tolist(), {"recall": {"recalled": recalled, "needles": count}}


class Texts:
    """One needle in each drawn sequence: kinds in turn, depths spread evenly over the text."""

    def __init__(self, model: Model, drawn: list[Any], asked: dict[str, Any]):
        bos = model.contract.document["tokenizer"]["bos"]
        self.drawn = [one.ids[1:] if one.ids[0] == bos else one.ids for one in drawn]
        self._tokenizer = load_tokenizer(asked["contract"])
        self._seed, self._wrap = asked["seed"], Wrap(asked["wrap"][0], asked["wrap"][1], bos)

    def document(self, n: int, length: int) -> Document:
        """The n-th, of ``length`` tokens in all."""
        kinds = (KINDS[n % len(KINDS)],)
        maker = DocumentMaker(self._tokenizer, self.drawn[n], "profile", self._wrap, kinds)
        # Depths in an order of their own, so that no kind keeps to one.
        place = (n * STRIDE) % len(self.drawn)
        return maker.make(f"{self._seed}/{n}", length, [place / len(self.drawn)])


def _recalls_nothing(model: Model, texts: Texts, length: int) -> LockstepError:
    """Said with the longest of the halves of ``length`` at which something is recalled."""
    count, asked, half = min(8, len(texts.drawn)), len(texts.drawn), length // 2
    while half >= SHORTEST:
        job.check_cancelled()
        job.emit("progress", stage=f"recall at {half} tokens", done=0, total=1)
        try:
            found = sum(measure(model, texts.document(n, half)).recalled for n in range(count))
        except LockstepError as error:
            if error.code != "LS_RECALL_LENGTH":  # a needle and its question fill it
                raise
            break
        if found:
            return _error(length, asked, f"at {half} tokens {found} of {count}", f"--length {half}")
        half //= 2
    least = 2 * half
    tried = f"at {least} tokens none of {count}" if least < length else "no shorter text was tried"
    return _error(length, asked, tried, "--method gates")


def _error(length: int, count: int, shorter: str, fix: str) -> LockstepError:
    return LockstepError(
        "LS_PROFILE_RECALL",
        f"expected a model that recalls needles with full attention at {length} tokens, got 0 of "
        f"{count} recalled; {shorter}",
        f"Give {fix}: copying heads can be found only if the model recalls something.",
        "length",
    )
