"""Copy mass against transformers' own attention (which has angles and softmax in float32), and what
the job does with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import make_tiny
import pytest
import torch
from lockstep import full
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.evaluation.profile import choose, recall
from lockstep.evaluation.profile.partial import Partial
from lockstep.needles.documents import DocumentMaker, Wrap
from lockstep.operator import lm_head
from lockstep.operator.model import Model
from tiny import tiny

TOKENIZER = make_tiny.tokenizer()
IDS = TOKENIZER.encode("It rained for days. The river rose, and rose again.\n\n" * 40).ids
SIZE = TOKENIZER.get_vocab_size()


def model_of(architecture: str = "llama") -> Model:
    module = tiny(architecture, vocabulary=SIZE, layers=3)
    return Model(module, Spec(64, 8, 2, 0, "topk", (), ((),) * 3))


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@torch.no_grad()
def test_copy_mass_is_that_of_full_attention(architecture: str) -> None:
    model = model_of(architecture)
    one = DocumentMaker(TOKENIZER, IDS, "profile", Wrap("", " ")).make("a", 400, [0.4])
    (needle,) = one.needles
    seen = recall.measure(model, one)
    ids = [*one.ids, *needle.tail]
    model.config._attn_implementation = "eager"
    out = model.module(input_ids=torch.tensor(ids)[None], output_attentions=True)
    start = len(one.ids)
    rows = range(start + needle.answer.start - 1, start + needle.answer.stop - 1)
    for layer, attention in enumerate(out.attentions):
        shares = [
            sum(
                float(attention[0, h, t, n])
                for t in rows
                for n in range(needle.span.start - 1, needle.span.stop)
            )
            / len(rows)
            for h in range(4)
        ]
        want = [max(shares[0:2]), max(shares[2:4])]
        assert seen.mass_LH[layer].tolist() == pytest.approx(want, rel=1e-5)
    assert float(seen.mass_LH.min()) > 0 and not seen.recalled


@torch.no_grad()
def test_the_pass_is_full_attention_itself() -> None:
    model = model_of()
    context = recall.CopyContext(model, len(IDS[:120]), range(100, 110), range(20, 30))
    got = model.forward(torch.tensor(IDS[:120]), context)
    torch.testing.assert_close(got, full.hidden(model, IDS[:120]), rtol=0, atol=1e-5)


def drawn(count: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(ids=IDS[n : n + 700]) for n in range(count)]


def asked(folder: Path, **more) -> dict:
    return {
        "contract": str(folder),
        "needles": 4,
        "length": 640,
        "seed": 0,
        "wrap": ["", " "],
    } | more


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Model, Path]:
    make_tiny.write(tmp_path / "model")
    model = model_of()
    model.contract = SimpleNamespace(document={"tokenizer": {"bos": None}})
    return model, tmp_path


def test_a_model_that_recalls_nothing_is_told_so(prepared: tuple[Model, Path]) -> None:
    model, folder = prepared
    with pytest.raises(LockstepError) as caught:
        recall.run(model, drawn(4), asked(folder / "model"), Partial(folder / "x.json", {}))
    assert caught.value.code == "LS_PROFILE_RECALL"
    assert "got 0 of 4 recalled; at 320 tokens none of 4" in str(caught.value)
    assert "--method gates" in str(caught.value.fix)


def test_where_it_still_recalls_is_said(prepared: tuple[Model, Path], monkeypatch) -> None:
    model, folder = prepared
    real = recall.measure

    def measure(model, document):
        seen = real(model, document)
        return recall.CopyMass(seen.mass_LH, len(document.ids) < 320)

    monkeypatch.setattr(recall, "measure", measure)
    with pytest.raises(LockstepError) as caught:
        recall.run(model, drawn(4), asked(folder / "model"), Partial(folder / "x.json", {}))
    assert "at 320 tokens 4 of 4" in str(caught.value)
    assert "--length 320" in str(caught.value.fix)


def test_an_interrupted_measurement_ends_with_the_same_scores(
    prepared: tuple[Model, Path], monkeypatch
) -> None:
    model, folder = prepared
    monkeypatch.setattr(lm_head, "logits", lambda _, h: torch.zeros(len(h), SIZE))
    real = recall.measure
    monkeypatch.setattr(recall, "measure", lambda m, d: recall.CopyMass(real(m, d).mass_LH, True))
    task = asked(folder / "model")
    whole, metadata = recall.run(model, drawn(4), task, Partial(folder / "a.json", {}))
    assert metadata == {"recall": {"recalled": 4, "needles": 4}}
    partial = Partial(folder / "b.json", {})
    stopped = []

    def stopping(m, d):
        if len(stopped) == 2:
            raise KeyboardInterrupt
        stopped.append(d)
        return recall.CopyMass(real(m, d).mass_LH, True)

    with monkeypatch.context() as patch:
        patch.setattr(recall, "measure", stopping)
        with pytest.raises(KeyboardInterrupt):
            recall.run(model, drawn(4), task, partial.part("recall"))
    assert partial.read()["recall"]["done"] == 2
    assert recall.run(model, drawn(4), task, partial.part("recall"))[0] == whole


def test_without_layers_the_best_heads_are_taken_wherever_they_lie() -> None:
    scores = [[9.0, 9.0], [0.1, 0.5], [0.2, 0.2], [0.9, 0.0]]
    assert choose.best(scores, 3, None) == [[], [1], [0], [0]]
    with pytest.raises(LockstepError, match="expected 1 to 6 heads"):
        choose.best(scores, 7, None)


def test_mixed_takes_the_first_of_each() -> None:
    a = [[5.0, 5.0], [0.9, 0.0], [0.1, 0.2]]
    b = [[7.0, 7.0], [10.0, 20.0], [5.0, 0.0]]
    assert choose.mixed(a, b) == [[0.0, 0.0], [1.0, 1.0], [0.5, 0.75]]
    assert choose.best(choose.mixed(a, b), 2, None) == [[], [0, 1], []]
