"""Exported graphs against transformers, quantized weights against bounds, and atomic export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from lockstep.contract.reader import Contract
from lockstep.contract.shape import shape_of
from lockstep.contract.shape_fields import read_fields
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.export import job as export
from lockstep.export.graph import build
from lockstep.export.model import ModelShape, layer_heads, read_model
from lockstep.export.nodes import Linear
from lockstep.export.quality import feeds, perplexity
from lockstep.export.quant import BLOCK, Quantized, quantize
from lockstep.export.weights import Checkpoint, WeightFile
from tiny import ARCHITECTURES, tiny

torch.set_num_threads(1)
IDS = np.array([5, 9, 2, 7, 7, 1, 0, 3, 11, 4], dtype=np.int64)


def spec(layers: int, long: tuple[int, ...] = (1,), size: int = 8) -> Spec:
    return Spec(32, 8, 4, size, "anchors", (1,), (long,) * layers)


def saved(folder: Path, architecture: str = "llama", **options) -> torch.nn.Module:
    module = tiny(architecture, dtype=torch.float32, **options)
    module.save_pretrained(folder)
    return module


def write(
    folder: Path, linear: Linear, chosen: Spec | None = None
) -> tuple[Path, ModelShape, list]:
    model = read_model(folder)
    parts = layer_heads(model, chosen or spec(model.layers))
    file = WeightFile(folder / "step.onnx.data")
    graph = build(model, parts, Checkpoint(folder), file, linear)
    file.close()
    path = folder / "step.onnx"
    path.write_bytes(graph.SerializeToString())
    return path, model, parts


def logits(path: Path, model: ModelShape, parts: list) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    return session.run(["logits"], feeds(session, model, parts, IDS))[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rope", ["default", "llama3", "yarn"])
def test_a_first_segment_equals_transformers(tmp_path: Path, architecture: str, rope: str) -> None:
    options = {"rope": rope, "tied": rope == "yarn", "bias": rope == "llama3"}
    module = saved(tmp_path, architecture, **options)
    path, model, parts = write(tmp_path, Linear())
    with torch.no_grad():
        expected_TV = module(torch.from_numpy(IDS)[None]).logits[0].numpy()
    assert np.abs(logits(path, model, parts) - expected_TV).max() < 2e-5 * np.abs(expected_TV).max()


def test_raw_rows_leave_only_where_layers_retrieve(tmp_path: Path) -> None:
    saved(tmp_path)
    path, _, _ = write(tmp_path, Linear())
    outputs = {o.name for o in onnxruntime.InferenceSession(str(path)).get_outputs()}
    assert {name for name in outputs if "raw" in name} == {
        "1.raw_queries",
        "1.raw_keys",
    }
    path, _, _ = write(tmp_path, Linear(), spec(3, size=0))
    outputs = {o.name for o in onnxruntime.InferenceSession(str(path)).get_outputs()}
    assert not [name for name in outputs if "raw" in name]


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        folder = tmp_path / str(tied)
        saved(folder, tied=tied, vocabulary=5000)
        sizes[tied] = (write(folder, Linear())[0].parent / "step.onnx.data").stat().st_size
    assert sizes[False] - sizes[True] > 5000 * 20 * 4 * 0.9


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_weights_stay_within_half_a_step(bits: int) -> None:
    weight_NK = np.random.default_rng(0).standard_normal((6, 3 * BLOCK + 5)).astype(np.float32)
    weight_NK[2, :BLOCK] = 0
    codes, scale_NB, zeros = quantize(weight_NK, bits)
    assert codes.shape == (6, 4, BLOCK * bits // 8)
    if bits == 4:
        codes = np.stack((codes & 15, codes >> 4), -1).reshape(6, 4, BLOCK)
        zero_NB = np.stack((zeros & 15, zeros >> 4), -1).reshape(6, -1)[:, :4]
    else:
        assert zeros is None
        zero_NB = np.full((6, 4), 128)
    back = ((codes.astype(np.float32) - zero_NB[..., None]) * scale_NB[..., None]).reshape(6, -1)
    error_NK = np.abs(back[:, : weight_NK.shape[1]] - weight_NK)
    step = np.repeat(scale_NB, BLOCK, axis=1)[:, : weight_NK.shape[1]]
    if bits == 8:
        assert (error_NK <= 0.5001 * step).all()
    else:
        # The range may be shrunk where that lessens the squared error: then its ends are clipped.
        assert (error_NK <= 0.5001 * step).mean() > 0.9
        assert np.square(error_NK).mean() < 0.02
    assert (back[2, :BLOCK] == 0).all()


@pytest.mark.parametrize(("bits", "correlation"), [(8, 0.995), (4, 0.9)])
@pytest.mark.parametrize("tied", [True, False])
def test_quantized_graphs_run_near_fp32(
    tmp_path: Path, bits: int, correlation: float, tied: bool
) -> None:
    saved(tmp_path, hidden=64, tied=tied, head_dim=16)
    exact_TV = logits(*write(tmp_path, Linear()))
    rough_TV = logits(*write(tmp_path, Quantized(bits)))
    assert np.corrcoef(exact_TV.ravel(), rough_TV.ravel())[0, 1] > correlation
    assert np.abs(rough_TV - exact_TV).max() > 1e-4


def test_perplexity_is_that_of_windows_run_as_first_segments(tmp_path: Path) -> None:
    module = saved(tmp_path)
    path, model, parts = write(tmp_path, Linear())
    losses = []
    for start in (0, 4, 8):
        piece = torch.from_numpy(IDS)[start : start + 5]
        with torch.no_grad():
            logp_TV = module(piece[None, :-1]).logits[0].double().log_softmax(-1)
        losses += (-logp_TV.gather(1, piece[1:, None])[:, 0]).tolist()
    assert len(losses) == len(IDS) - 1
    found = perplexity(path, model, parts, IDS.tolist(), 4, threads=1)
    assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"head_dim": 12}, "multiple of 8"),
        (
            {
                "rope_parameters": {
                    "rope_type": "dynamic",
                    "rope_theta": 1e4,
                    "factor": 2.0,
                }
            },
            "length",
        ),
        ({"model_type": "mistral", "sliding_window": 16}, "sliding"),
    ],
)
def test_a_model_that_the_graph_cannot_express_is_refused(
    tmp_path: Path, change: dict, what: str
) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(LockstepError, match=what) as caught:
        read_model(tmp_path)
    assert caught.value.code == "LS_EXPORT_MODEL"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(LockstepError, match=r"model\.safetensors"):
        Checkpoint(tmp_path)


class Exporting(export.Exporter):
    """An exporter of a directory without a contract."""

    def __post_init__(self) -> None:
        self.spec = spec(3)
        self.model = read_model(self.directory)
        self.parts = layer_heads(self.model, self.spec)
        self.weights = "e" * 64
        shape = shape_of(read_fields(self.directory))
        trained = {"weights": {"sha256": self.weights}}
        self.contract = Contract({"digest": "d" * 64, "model": shape, "trained": trained}, "")


@pytest.fixture
def exporter(tmp_path: Path) -> Exporting:
    saved(tmp_path, hidden=64)
    return Exporting(tmp_path, max_perplexity_ratio={"int8": 1.05, "int4": 1.25})


def folders(exporter: export.Exporter) -> list[str]:
    return sorted(path.name for path in (exporter.directory / "onnx").iterdir())


def test_a_graph_appears_whole_and_replaces_the_one_before(exporter: Exporting) -> None:
    for _ in range(2):
        with exporter.building("fp32") as made:
            exporter.publish(made)
    assert folders(exporter) == ["fp32"]
    folder = exporter.directory / "onnx" / "fp32"
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["digest"], meta["weights"]) == ("d" * 64, "e" * 64)
    for name, file in meta["files"].items():
        assert (folder / name).stat().st_size == file["bytes"]


def test_a_failure_leaves_what_was_there(exporter: Exporting) -> None:
    with exporter.building("fp32") as made:
        exporter.publish(made)
    with pytest.raises(OSError), exporter.building("fp32"):
        raise OSError("disk full")
    assert folders(exporter) == ["fp32"]


def test_a_precision_that_loses_too_much_is_refused_unless_forced(
    exporter: Exporting,
) -> None:
    with exporter.building("fp32") as reference, exporter.building("int4") as made:
        exporter.judge(reference, IDS.tolist())
        exporter.judge(made, IDS.tolist())
        exporter.max_perplexity_ratio["int4"] = 1e-6
        with pytest.raises(LockstepError) as caught:
            exporter.compare(made, reference)
        assert caught.value.code == "LS_EXPORT_PERPLEXITY"
        exporter.force = True
        exporter.compare(made, reference)
        assert made.forced
        exporter.max_perplexity_ratio["int4"] = 1e6
        made.forced = False
        exporter.compare(made, reference)
        assert not made.forced


def test_weights_that_did_not_shrink_are_refused(exporter: Exporting) -> None:
    with exporter.building("fp32") as reference, exporter.building("int8") as made:
        large = {"step.onnx.data": {"bytes": 1 << 30}}
        reference, made = (dataclasses.replace(b, files=large) for b in (reference, made))
        with pytest.raises(LockstepError) as caught:
            exporter.compare(made, reference)
        assert caught.value.code == "LS_EXPORT_SIZE"


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(LockstepError) as caught:
        export.run({"dir": ".", "precisions": ["fp16"]})
    assert caught.value.code == "LS_EXPORT_PRECISION"
