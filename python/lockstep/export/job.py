"""The export job: step graphs for onnxruntime, a folder a precision, judged, written atomically.

``python -m lockstep.export.job`` reads ``{"dir", "precisions": ["fp32", "int8", "int4"], "force",
"maxPerplexityRatio": {"int8": 1.05}, "text"}`` and emits ``stage`` and ``precision`` events.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bridge.job import check_cancelled, emit, main
from ..errors import LockstepError
from ..tokenizer.encoding import token_ids
from ..tokenizer.file import load_tokenizer
from ..weights import reader as weights
from . import meta as onnx_meta

PRECISIONS = ("fp32", "int8", "int4")
#: A precision may multiply the perplexity of fp32 by at most this.
MAX_PERPLEXITY_RATIO = {"int8": 1.05, "int4": 1.25}
#: Weights of at least this many bytes must shrink to these shares of fp32, or quantizing failed.
SHRINK_FROM, SHRINK_TO = 1 << 22, {"int8": 0.45, "int4": 0.40}
SAMPLE = Path(__file__).parents[1] / "data" / "export-sample.txt"
JUDGED_TOKENS = 2048


@dataclass
class Build:
    """One precision's graph in a folder that is not yet in its place."""

    precision: str
    folder: Path
    files: dict[str, dict[str, Any]]
    seconds: float
    perplexity: float | None = None
    ratio: float | None = None
    forced: bool = False

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files.values())


@dataclass
class Exporter:
    """What all precisions of one checkpoint share."""

    directory: Path
    force: bool = False
    max_perplexity_ratio: dict[str, float] = field(default_factory=dict)
    text: Path | None = None

    def __post_init__(self) -> None:
        from ..contract.reader import read
        from ..contract.spec import Spec
        from .model import layer_heads, read_model

        self.contract = read(self.directory)
        self.spec = Spec.from_contract(self.contract)
        self.model = read_model(self.directory)
        self.parts = layer_heads(self.model, self.spec)
        # Asked for or not: what the graph is made of is read anyway.
        self.weights = weights.identify(weights.read(self.directory, bytes_too=True))["sha256"]

    @contextmanager
    def building(self, precision: str) -> Iterator[Build]:
        """Write the graph and its weights into a scratch folder, which goes unless published."""
        check_cancelled()
        emit("stage", stage="build", precision=precision)
        started = time.monotonic()
        folder = self.directory / "onnx" / f".{precision}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield self._build(precision, folder, started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _build(self, precision: str, folder: Path, started: float) -> Build:
        from .graph import build
        from .nodes import Linear
        from .products import build as products
        from .products import build_blocks
        from .quant import Quantized
        from .weights import Checkpoint, WeightFile

        linear = Linear() if precision == "fp32" else Quantized(int(precision[3:]))
        file = WeightFile(folder / "step.onnx.data")
        graph = build(self.model, self.parts, Checkpoint(self.directory), file, linear)
        data = file.close()
        files = {
            "step.onnx": _write(folder / "step.onnx", graph.SerializeToString()),
            "step.onnx.data": data,
            "products.onnx": _write(
                folder / "products.onnx", products(self.model.head_dim).SerializeToString()
            ),
        }
        if self.spec.recipe == "blocks":
            blocks = build_blocks(self.model.head_dim).SerializeToString()
            files["blocks.onnx"] = _write(folder / "blocks.onnx", blocks)
        return Build(precision, folder, files, time.monotonic() - started)

    def judge(self, build: Build, ids: list[int]) -> None:
        """Perplexity of the graph on the judged text."""
        from .quality import WINDOW, perplexity

        emit("stage", stage="judge", precision=build.precision)
        window = min(self.spec.max, WINDOW)
        build.perplexity = perplexity(
            build.folder / "step.onnx", self.model, self.parts, ids, window, check=check_cancelled
        )

    def compare(self, build: Build, reference: Build) -> None:
        """Refuse a precision that did not shrink (LS_EXPORT_SIZE) or predicts too badly
        (LS_EXPORT_PERPLEXITY)."""
        share = build.bytes / reference.bytes
        if reference.bytes >= SHRINK_FROM and share > SHRINK_TO[build.precision]:
            raise LockstepError(
                "LS_EXPORT_SIZE",
                f"expected {build.precision} weights below {SHRINK_TO[build.precision]:.0%} of "
                f"fp32's, got {share:.0%}",
                "Export this checkpoint as fp32 or int8.",
            )
        assert build.perplexity is not None and reference.perplexity is not None
        build.ratio = build.perplexity / reference.perplexity
        limit = self.max_perplexity_ratio[build.precision]
        if build.ratio <= limit:
            return
        if not self.force:
            raise LockstepError(
                "LS_EXPORT_PERPLEXITY",
                f"expected {build.precision} to keep perplexity within {limit:g} times fp32's "
                f"{reference.perplexity:.2f}, got {build.perplexity:.2f} ({build.ratio:.3f} times)",
                "Use a higher precision, allow more with --max-perplexity-ratio, or add --force.",
            )
        build.forced = True

    def publish(self, build: Build) -> dict[str, Any]:
        """Write meta.json and move the folder into its place in one step."""
        meta = {
            "precision": build.precision,
            "digest": self.contract.digest,
            "files": build.files,
            "weights": self.weights,
            "model": describe(self.model),
            "quality": {
                "perplexity": _finite(build.perplexity),
                "ratio": _finite(build.ratio),
                "forced": build.forced,
            },
        }
        file = build.folder / "meta.json"
        onnx_meta.write(file, meta)
        onnx_meta.read(file, self.contract.document, build.precision)
        place = self.directory / "onnx" / build.precision
        aside = place.with_name(f".{build.precision}.old.{os.getpid()}")
        if place.exists():
            place.rename(aside)
        build.folder.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
        report = {
            "precision": build.precision,
            "path": str(place),
            "bytes": build.bytes,
            "seconds": round(build.seconds, 3),
            "perplexity": build.perplexity,
            "ratio": build.ratio,
            "forced": build.forced,
        }
        emit("precision", **report)
        return report

    def judged_ids(self) -> list[int]:
        """Token ids of the text that precisions are judged by (LS_EXPORT_TEXT)."""
        file = self.text or SAMPLE
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LockstepError(
                "LS_EXPORT_TEXT",
                f"expected UTF-8 text in {file}, got: {error}",
                "Give another file with --text.",
            ) from error
        tokenizer = load_tokenizer(self.directory)
        ids = token_ids(tokenizer, text[: 16 * JUDGED_TOKENS])
        bos = self.contract.document["tokenizer"]["bos"]
        ids = ([] if bos is None else [bos]) + ids
        ids = [token for token in ids if token < self.model.vocabulary][: JUDGED_TOKENS + 1]
        if len(ids) < 2:
            raise LockstepError(
                "LS_EXPORT_TEXT",
                f"expected at least 2 tokens in {file}, got {len(ids)}",
                "Give a longer text with --text.",
            )
        return ids


def _write(path: Path, content: bytes) -> dict[str, Any]:
    path.write_bytes(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def describe(model: Any) -> dict[str, Any]:
    """What an engine needs to run the graph; the inverse frequencies are exact."""
    return {
        "architecture": model.architecture,
        "layers": model.layers,
        "vocabulary": model.vocabulary,
        "queryHeads": model.query_heads,
        "kvHeads": model.kv_heads,
        "headDim": model.head_dim,
        "invFreq": [float(f) for f in model.inv_freq],
        "attentionFactor": model.attention_factor,
    }


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Export every precision asked for. The quantized ones are judged against fp32, which is built
    for that even where it is not kept; one that is refused does not keep back the others."""
    wanted = _precisions(job.get("precisions") or ["fp32"])
    limits = MAX_PERPLEXITY_RATIO | {
        name: float(limit) for name, limit in (job.get("maxPerplexityRatio") or {}).items()
    }
    text = job.get("text")
    exporter = Exporter(
        Path(job["dir"]), bool(job.get("force")), limits, None if text is None else Path(text)
    )
    ids = exporter.judged_ids() if wanted != ["fp32"] else []
    done, refused = [], []
    with exporter.building("fp32") as reference:
        if ids:
            exporter.judge(reference, ids)
        if "fp32" in wanted:
            done.append(exporter.publish(reference))
    for precision in (name for name in wanted if name != "fp32"):
        with exporter.building(precision) as build:
            exporter.judge(build, ids)
            try:
                exporter.compare(build, reference)
            except LockstepError as error:
                refused.append(error)
            else:
                done.append(exporter.publish(build))
    probe = _probe(exporter)
    if refused:
        raise refused[0]
    return {"dir": str(exporter.directory), "precisions": done, "probe": probe}


def _probe(exporter: Exporter) -> dict[str, Any]:
    """Record the checkpoint's probe, unless it already has one that fits.

    Returns what was recorded, or ``{"error"}``: the graphs can be used without one.
    """
    from ..verification import probe

    check_cancelled()
    if probe.current(exporter.directory, exporter.contract):
        return {"path": str(exporter.directory / probe.PROBE_FILE)}
    emit("stage", stage="probe", precision="")
    try:
        return probe.record(exporter.directory)
    except LockstepError as error:
        return {"error": error.as_dict()}


def _precisions(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise LockstepError(
            "LS_EXPORT_PRECISION",
            f"expected precisions among {', '.join(PRECISIONS)}, got {unknown[0]!r}",
            "Choose one of them, or all.",
            "precision",
        )
    return [name for name in PRECISIONS if name in names]


if __name__ == "__main__":
    main(run)
