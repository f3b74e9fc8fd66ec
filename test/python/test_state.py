"""A sequence between steps: forks, bytes, replaced retrievals, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from lockstep import LockstepError, Model, Spec, full
from lockstep.loader import load_module
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)

SPEC = Spec(8, 5, 4, 4, "anchors", (1, 2), ((0,), (0, 1), (1,)))
IDS = tiny.text(45, 7)
CUTS = [3, 11, 19, 24, 32, 40]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_module(tiny.tiny("llama", seed=4), SPEC)


def advance(model: Model, state, start: int, end: int, stride: int = 3) -> torch.Tensor:
    """Run tokens [start, end) by small steps, closing at the cuts."""
    rows, at = [], start
    while at < end:
        to = min([at + stride, end, *(c for c in CUTS if c > at)])
        rows.append(model.step(state, IDS[at:to], rows="all"))
        at = to
        if at in CUTS:
            model.close(state)
    return torch.cat(rows) if rows else torch.empty(0, tiny.VOCABULARY)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(LockstepError) as caught:
        call()
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize("at", [0, 2, 11, 13, 26, 32])
def test_forks_are_independent(model: Model, at: int) -> None:
    expected = model.logits(IDS, CUTS)
    state = model.state()
    advance(model, state, 0, at)
    fork = state.fork()
    # The fork goes elsewhere first: other tokens, another boundary.
    model.step(fork, [5, 6])
    model.close(fork)
    model.step(fork, [7, 8, 9])
    assert (advance(model, state, at, 45) - expected[at:]).abs().max() < 1e-10
    again = state.fork()
    assert again.position == 45 and fork.position == at + 5
    a, b = model.step(state, [3], rows="last"), model.step(again, [3], rows="last")
    assert torch.equal(a, b)


def test_rows_choose_what_comes_back(model: Model) -> None:
    state = model.state()
    assert model.step(state, IDS[:3], rows="none").shape == (0, tiny.VOCABULARY)
    assert model.step(state, IDS[3:5], rows="last").shape == (1, tiny.VOCABULARY)
    assert model.step(state, IDS[5:8], rows="all").shape == (3, tiny.VOCABULARY)
    assert model.step(state, []).shape == (0, tiny.VOCABULARY)
    assert (state.position, state.open_length) == (8, 8)


def test_bytes_are_bounded_but_for_the_pool(model: Model) -> None:
    def held(segments: int) -> dict[str, int]:
        state = model.state()
        for n in range(segments):
            model.step(state, tiny.text(8, n))
            model.close(state)
        assert state.nbytes()["open"] == 0
        model.step(state, tiny.text(8, 99))
        return state.nbytes()

    few, many = held(4), held(40)
    for part in ("sinks", "carry", "retrieved", "open"):
        assert few[part] == many[part] > 0, part
    row = 2 * 8 * 8  # bytes of a key and its value: D = 8, float64
    local = 6 - sum(map(len, SPEC.long_heads))
    pooled = len(SPEC.long_heads[1]) + len(SPEC.long_heads[2])
    assert few["sinks"] == row * 6 * 4 and few["carry"] == row * local * 5
    assert few["retrieved"] == row * pooled * 4
    tokens = 40 * 8 - 4
    assert row * pooled * tokens <= many["pool"] <= 1.5 * row * pooled * tokens


def test_a_forks_pool_is_shared_until_it_grows(model: Model) -> None:
    state = model.state()
    advance(model, state, 0, 32)
    pools = [g.pool_k for groups in state.layers for g in groups if g.group.pooled]
    forked = [g.pool_k for groups in state.fork().layers for g in groups if g.group.pooled]
    assert all(
        a.view().data_ptr() == b.view().data_ptr() for a, b in zip(pools, forked, strict=True)
    )


def test_replaced_retrievals_are_used(model: Model) -> None:
    state = model.state()
    advance(model, state, 0, 29)
    model.step(state, IDS[29:32])
    retrieved = model.close(state)
    assert {layer: tuple(p.shape) for layer, p in retrieved.items()} == {1: (2, 4), 2: (1, 4)}
    same, other = state.fork(), state.fork()
    same.replace_retrieved(retrieved)
    other.replace_retrieved({1: torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])})
    plain = model.step(state, IDS[32:36])
    assert torch.equal(model.step(same, IDS[32:36]), plain)
    assert (model.step(other, IDS[32:36]) - plain).abs().max() > 1e-3
    assert code_of(lambda: same.replace_retrieved(retrieved)) == "LS_STATE_OPEN"


@pytest.mark.parametrize(
    "positions",
    [
        {0: [[0]]},
        {9: [[0]]},
        {2: [[0, 99]]},
        {2: [[-1]]},
        {1: [[0, 1]]},
        {2: [0, 1]},
        {2: [[0, 1]]},
    ],
)
def test_positions_must_fit_the_pool(model: Model, positions: dict) -> None:
    state = model.state()
    advance(model, state, 0, 32)
    assert code_of(lambda: state.replace_retrieved(positions)) == "LS_STATE_POSITIONS"


def test_misuse_is_named(model: Model) -> None:
    state = model.state()
    assert code_of(lambda: model.close(state)) == "LS_STATE_EMPTY"
    assert code_of(lambda: model.step(state, IDS[:9])) == "LS_STATE_LENGTH"
    assert state.position == 0
    assert code_of(lambda: model.step(state, [0.5])) == "LS_TOKENS_TYPE"
    assert code_of(lambda: model.step(state, ["a"])) == "LS_TOKENS_TYPE"
    assert code_of(lambda: model.step(state, [True])) == "LS_TOKENS_TYPE"
    assert code_of(lambda: model.step(state, [[1, 2]])) == "LS_TOKENS_SHAPE"
    assert code_of(lambda: model.step(state, [1, tiny.VOCABULARY])) == "LS_TOKENS_RANGE"
    assert code_of(lambda: model.logits([-1])) == "LS_TOKENS_RANGE"
    assert code_of(lambda: model.logits(IDS, [3, 3])) == "LS_BOUNDARIES"
    assert code_of(lambda: model.logits(IDS, [3, 46])) == "LS_BOUNDARIES"
    assert code_of(lambda: model.logits(IDS, [3, 40])) == "LS_BOUNDARIES"
    assert code_of(lambda: model.logits(IDS, form="dense")) == "LS_MODEL_FORM"


def test_empty_and_single_tokens(model: Model) -> None:
    for form in ("parallel", "steps", "tokens"):
        assert model.logits([], form=form).shape == (0, tiny.VOCABULARY)
        assert model.logits([5], form=form).shape == (1, tiny.VOCABULARY)
    assert model.nll([]).shape == model.nll([5]).shape == full.nll(model, []).shape == (0,)
    assert model.retrievals([]) == [] and model.plan([]) == []


def test_sizes_beyond_the_text_cost_nothing() -> None:
    """R, M and S far larger than any text: nothing is allocated for them."""
    huge = Spec(2**30, 2**30, 4, 2**30, "anchors", (1,), ((), (0,), ()))
    model = Model.from_module(tiny.tiny("llama", seed=4), huge)
    plain = full.logits(model, IDS)
    assert (model.logits(IDS, CUTS, form="steps") - plain).abs().max() < 1e-4
    assert (model.logits(IDS, CUTS) - plain).abs().max() < 1e-4


def test_documents_in_one_pass_do_not_see_each_other(model: Model) -> None:
    docs = [(IDS, CUTS), ([], []), (IDS[:7], [2]), (tiny.text(20, 3), [8, 16])]
    together = model.hidden_many(docs)
    for (ids, cuts), hidden in zip(docs, together, strict=True):
        assert (model.hidden(ids, cuts) - hidden).abs().sum() < 1e-9


def test_the_module_stays_stock(model: Model) -> None:
    """Between our passes the transformers module is full attention, and ours is never half on."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        before = model.module(ids).logits
        model.logits(IDS, CUTS)
        assert torch.equal(model.module(ids).logits, before)
        implementation = model.config._attn_implementation
        model.config._attn_implementation = "lockstep"
        try:
            assert code_of(lambda: model.module(ids)) == "LS_MODEL_DIRECT"
        finally:
            model.config._attn_implementation = implementation


def test_what_segments_cannot_run_is_refused() -> None:
    mistral = tiny.tiny("mistral")
    mistral.config.sliding_window = 16
    assert code_of(lambda: Model.from_module(mistral, SPEC)) == "LS_MODEL_SLIDING"
    other = tiny.tiny("llama")
    other.config.model_type = "gpt2"
    assert code_of(lambda: Model.from_module(other, SPEC)) == "LS_MODEL_ARCHITECTURE"
    missing = Spec(8, 5, 4, 4, "topk", (1,), ((0,), (2,), ()))
    assert code_of(lambda: Model.from_module(tiny.tiny(), missing)) == "LS_SPEC_HEADS"
    deep = Spec(8, 5, 4, 4, "topk", (3,), ((0,), (1,), ()))
    assert code_of(lambda: Model.from_module(tiny.tiny(), deep)) == "LS_SPEC_LAYERS"
    assert code_of(lambda: Spec(0, 5, 4, 4, "topk", (), ())) == "LS_SPEC_VALUE"


def test_nan_weights_are_named() -> None:
    module = tiny.tiny("llama")
    with torch.no_grad():
        module.model.layers[0].self_attn.v_proj.weight[0] = torch.nan
    model = Model.from_module(module, SPEC)
    assert code_of(lambda: model.logits(IDS, CUTS)) == "LS_RETRIEVAL_NONFINITE"


def test_a_checkpoint_without_a_weight_is_refused(tmp_path: Path) -> None:
    """transformers would fill the gap with random values."""
    module = tiny.tiny("llama", dtype=torch.float32)
    module.save_pretrained(tmp_path)
    loaded = load_module(tmp_path)
    assert torch.equal(loaded.lm_head.weight, module.lm_head.weight) and not loaded.training
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert code_of(lambda: load_module(tmp_path)) == "LS_MODEL_WEIGHTS_TENSORS"
    (tmp_path / "model.safetensors").unlink()
    torch_only = tmp_path / "pytorch_model.bin"
    torch_only.write_bytes(b"")
    assert code_of(lambda: load_module(tmp_path)) == "LS_MODEL_WEIGHTS"
    assert code_of(lambda: load_module(tmp_path / "absent")) == "LS_MODEL_MISSING"
    assert code_of(lambda: load_module(tmp_path, dtype="float16")) == "LS_MODEL_DTYPE"
