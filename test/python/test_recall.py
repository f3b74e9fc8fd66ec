"""Needles: where they stand, what is asked, and that one pass answers as one a needle would."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from lockstep import full, retrieval
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.evaluation.recall import answer_files, ask
from lockstep.evaluation.recall.summary import summed
from lockstep.needles import templates
from lockstep.needles.documents import Document, DocumentMaker, Wrap, check_depths
from lockstep.operator import lm_head
from lockstep.operator.model import Model
from tiny import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

DEPTHS = [0, 0.5, 1]
WRAP = Wrap("<s>\n", "</s>\n<a>\n")
PROSE = "It rained for days. Nobody went out! Was it the end? The river rose, and rose again.\n\n"


def bytes_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = bytes_tokenizer()
TEXT = TOKENIZER.encode(PROSE * 80).ids


def maker(split: templates.Split = "eval", **more) -> DocumentMaker:
    return DocumentMaker(TOKENIZER, TEXT, split, **({"wrap": WRAP} | more))


def said(ids: list[int]) -> str:
    return TOKENIZER.decode(ids)


def test_splits_share_neither_wordings_nor_words() -> None:
    for a, b in itertools.combinations(templates.TEMPLATES, 2):
        for name in (f.name for f in dataclasses.fields(templates.Words)):
            first, second = (set(getattr(templates.WORDS[split], name)) for split in (a, b))
            assert first and second and not first & second, (a, b, name)
        wordings = [
            {
                text
                for one in templates.TEMPLATES[split]
                for text in (one.needle, *sum(one.asked, ()))
            }
            for split in (a, b)
        ]
        assert not wordings[0] & wordings[1]
    for split, of in templates.TEMPLATES.items():
        assert {one.kind for one in of} == set(templates.KINDS), split
        assert all(len(one.asked) >= 2 for one in of)


@pytest.mark.parametrize("split", ["profile", "train", "eval"])
def test_a_document_says_each_value_once_where_it_claims(split: templates.Split) -> None:
    for seed in range(8):
        one = maker(split).make(f"s{seed}", 1600, DEPTHS)
        longest = max(len(needle.tail) for needle in one.needles)
        assert len(one.ids) + longest == 1600
        text = said(one.ids)
        assert text.startswith(WRAP.before)
        for needle, depth in zip(one.needles, DEPTHS, strict=True):
            value = said(one.ids[needle.span.start : needle.span.stop])
            assert said(needle.tail[needle.answer.start : needle.answer.stop]) == value
            assert needle.answer.stop == len(needle.tail)
            assert text.count(value) == 1
            opening, rest = said(needle.tail[: needle.opening]), said(needle.tail[needle.opening :])
            assert opening.startswith("\n\n") and opening.endswith(WRAP.behind)
            assert rest.endswith(value) and value not in opening
            assert abs(needle.span.start / len(one.ids) - depth) < 0.15
        assert len({needle.wording for needle in one.needles}) == len(DEPTHS)


def test_needles_stand_between_sentences() -> None:
    one = maker().make("s", 1600, [0.3, 0.7])
    text = said(one.ids)
    for needle in one.needles:
        before = text[: needle.span.start].rsplit(" ", 1)
        start = text.rfind(needle.wording.split("{key}")[0], 0, needle.span.start)
        assert text[:start].rstrip(" ").endswith((".", "!", "?", "\n\n")), before


def test_the_same_seed_makes_the_same_document_and_another_another() -> None:
    assert maker().make("a", 900, DEPTHS) == maker().make("a", 900, DEPTHS)
    assert maker().make("a", 900, DEPTHS) != maker().make("b", 900, DEPTHS)


def test_bos_stands_in_front_once() -> None:
    front = TOKENIZER.encode("<").ids[0]
    assert maker(wrap=Wrap("<s>", " ", front)).make("a", 900, [0.5]).ids[:2] != [front, front]
    plain = maker(wrap=Wrap("", " ", front)).make("a", 900, [0.5])
    assert plain.ids[0] == front


@pytest.mark.parametrize("length", [120, 100_000])
def test_lengths_without_room_or_text_are_refused(length: int) -> None:
    with pytest.raises(LockstepError) as caught:
        maker().make("a", length, DEPTHS)
    assert caught.value.code == "LS_RECALL_LENGTH"


@pytest.mark.parametrize("depths", [[], [0.5, 0.5], [0.6, 0.1], [-0.1], [1.1]])
def test_depths_are_checked(depths: list[float]) -> None:
    with pytest.raises(LockstepError) as caught:
        check_depths(depths)
    assert caught.value.code == "LS_RECALL_DEPTHS"


SPEC = Spec(
    160,
    8,
    2,
    320,
    recipe="blocks",
    retrieval_layers=(1, 2),
    long_heads=((), (0,), (0, 1)),
    carry_heads="all",
    block=8,
    window=6,
)


class Cut(Model):
    """A cut every 160 tokens, and one at the answer's beginning, as `turns` makes it."""

    mark = TOKENIZER.encode("<a>\n").ids

    def plan(self, ids) -> list[int]:
        ids, cuts, last = list(ids), [], 0
        for at in range(1, len(ids) + 1):
            if at - last == self.spec.max or ids[max(0, at - len(self.mark)) : at] == self.mark:
                cuts.append(last := at)
        return cuts


def model_of(spec: Spec = SPEC) -> Cut:
    return Cut(tiny("llama", vocabulary=256), spec)


@torch.no_grad()
def test_one_pass_over_a_document_equals_one_a_needle() -> None:
    model, one = model_of(), maker().make("a", 700, DEPTHS)
    for way in (ask.full_attention, ask.segmented):
        found = way(model, one)
        for needle, asked in zip(one.needles, found, strict=True):
            ids = [*one.ids, *needle.tail]
            hidden = full.hidden(model, ids) if way is ask.full_attention else model.hidden(ids)
            logp = lm_head.logits(model.head, hidden).log_softmax(-1)
            start = len(one.ids) + needle.answer.start
            rows, want = logp[start - 1 : len(ids) - 1], torch.tensor(ids[start:])
            assert asked.logp == pytest.approx(
                float(rows.gather(1, want[:, None]).mean()), abs=1e-9
            )
            assert asked.recalled == bool((rows.argmax(-1) == want).all())


def test_what_heads_hold_is_what_the_answer_sees() -> None:
    """Against the trace of the whole sequence, at the cut where the answer begins."""
    model, one = model_of(), maker().make("a", 700, DEPTHS)
    seen = 0
    for needle, asked in zip(one.needles, ask.segmented(model, one), strict=True):
        assert asked.cut == 0
        ids = [*one.ids, *needle.tail]
        at = len(one.ids) + needle.opening
        boundary = next(b for b in model.trace(ids).boundaries if b.at == at)
        wanted = {n - SPEC.sinks for n in needle.span}
        held = {
            layer: [
                h
                for h, rows in zip(SPEC.long_heads[layer], retrieval.listed(p), strict=True)
                if wanted <= set(rows)
            ]
            for layer, p in boundary.positions.items()
        }
        near = needle.span.stop > at - SPEC.carry
        assert asked.held == (None if near else held)
        seen += sum(map(len, held.values()))
    everything = dataclasses.replace(SPEC, retrieval_size=800)
    for asked in ask.segmented(model_of(everything), one):
        assert asked.held is None or asked.held == {1: [0], 2: [0, 1]}
    assert 0 < seen < 9


def test_kept_answers_are_gone_on_with_and_summed(tmp_path: Path) -> None:
    model = model_of()
    made = [(600, n, maker().make(f"600/{n}", 600, DEPTHS)) for n in range(9)]
    answer_files.write_documents(tmp_path, made)
    assert list(answer_files.read_documents(tmp_path)) == made
    rows = {"one": ask.segmented, "full": ask.full_attention}
    for row, way in rows.items():
        for length, index, one in made:
            answer_files.add_answers(
                tmp_path, row, length, index, [a.as_dict() for a in way(model, one)]
            )
    with (tmp_path / "one.jsonl").open("a") as file:
        file.write('{"length": 6')  # a crash
    assert len(answer_files.answers(tmp_path, "one")) == 9
    assert (tmp_path / "one.jsonl").read_text().endswith("}\n")
    result = summed(tmp_path, list(rows), [("one", "full")])
    assert json.loads(json.dumps(result)) == result
    one = result["rows"]["one"]
    assert [cell["samples"] for cell in one["cells"]] == [9, 9, 9]
    assert one["lengths"][0]["samples"] == 27 and one["lengths"][0]["low"] is not None
    assert result["rows"]["full"]["heads"] is None
    assert all(0 < h["held"] <= 1 for h in one["heads"])
    (difference,) = result["differences"]
    assert difference["difference"] == pytest.approx(
        one["lengths"][0]["recalled"] - result["rows"]["full"]["lengths"][0]["recalled"]
    )
    (tmp_path / "full.jsonl").unlink()
    with pytest.raises(LockstepError, match="answers of full"):
        summed(tmp_path, list(rows), [])


def test_documents_of_another_measurement_are_refused(tmp_path: Path) -> None:
    answer_files.write_documents(tmp_path, [(600, 0, maker().make("a", 600, DEPTHS))])
    with pytest.raises(LockstepError) as caught:
        answer_files.write_documents(tmp_path, [(600, 0, maker().make("b", 600, DEPTHS))])
    assert caught.value.code == "LS_EVAL_RESUME"


def test_a_model_that_copies_recalls() -> None:
    """Whatever is asked: logits that name the answer are recalled, others are not."""
    one = maker().make("a", 600, [0.5])
    (needle,) = one.needles
    model = model_of()
    assert not ask.full_attention(model, one)[0].recalled
    document = Document(one.ids, (needle,))
    model.head.weight.data.zero_()
    model.head.weight.data[:] = torch.randn(256, model.config.hidden_size, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:

        def told(_, hidden_TE):
            wanted = needle.tail[needle.answer.start : needle.answer.stop]
            assert len(hidden_TE) == len(wanted)
            return torch.nn.functional.one_hot(torch.tensor(wanted), 256).double() * 50

        patch.setattr(ask.lm_head, "logits", told)
        (asked,) = ask.full_attention(model, document)
    assert asked.recalled and asked.logp == pytest.approx(0, abs=1e-9)
