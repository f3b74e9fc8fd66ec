"""The job behind ``lockstep profile``: which heads become long, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.weights import reader as weights

from . import choose
from .partial import Partial

Scores = list[list[float]]
#: What says how much of it a method does.
EFFORT = {
    "mass": ("sequences",),
    "gates": ("steps", "penalty"),
    "recall": ("needles",),
    "mixed": ("needles", "steps", "penalty"),
}


def run(task: dict[str, Any]) -> dict[str, Any]:
    """``{model, method, heads, layers, measure}`` -> ``{long, retrieval, scores, …}``.

    ``model`` is the checkpoint as it is; ``layers`` may be None for what measures: as many as it
    takes. ``measure`` is ``{contract, texts, length, seed, out, device, threads}``, where
    ``contract`` is the checkpoint under the contract that says how it is segmented, with what the
    method takes (`EFFORT`; ``wrap``: a chat template's texts around what a user says).

    Raises ``LS_PROFILE_*``, and what loading model and texts raises.
    """
    folder, method = Path(task["model"]), task["method"]
    want = task["heads"], task["layers"]
    layers, kv_heads = _shape(folder)
    choose.check(layers, kv_heads, *want)
    sha256 = weights.identify(weights.read(folder))["sha256"]
    model = {"name": folder.resolve().name, "sha256": sha256}
    rules = {"first": choose.first, "even": choose.even}
    if method in rules:
        long = rules[method](layers, kv_heads, *want)
        return _result(model, method, long, None, {})
    scores, metadata = _measure(task, model)
    return _result(model, method, choose.best(scores, *want), scores, metadata)


def _shape(folder: Path) -> tuple[int, int]:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return config["num_hidden_layers"], heads


def _measure(task: dict[str, Any], model_metadata: dict[str, str]) -> tuple[Scores, dict[str, Any]]:
    import torch

    from lockstep.loader import load

    from .windows import WindowSampler, check_length

    asked, method = task["measure"], task["method"]
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    job.emit("progress", stage="loading", done=0, total=0)
    model = load(asked["contract"], device=asked["device"])
    check_length(model, asked["length"], beyond=method != "recall")
    if method in ("gates", "mixed") and model.spec.retrieval_size == 0:
        raise LockstepError(
            "LS_PROFILE_RETRIEVAL",
            "expected retrieval of at least one row for gates to choose, got retrieval.size 0",
            "Give --retrieval N, or retrieval.size in the config.",
            "retrieval.size",
        )
    draws = WindowSampler(
        model,
        Path(asked["contract"]),
        asked["texts"],
        length=asked["length"],
        count=max(asked[name] for name in EFFORT[method] if name != "penalty"),
        seed=asked["seed"],
    )
    settings = {name: asked[name] for name in ("length", "seed", *EFFORT[method])}
    if method in ("gates", "mixed"):
        settings["truncation"] = model.contract.document["training"]["truncation"]
    metadata = {
        "settings": settings,
        "execution": _execution(model.contract.document, method),
        "data": {
            "files": asked["texts"]["files"],
            "tokens": sum(len(one.ids) for one in draws.drawn),
            "sha256": draws.sha256,
        },
    }
    rule = {name: model.contract.document[name] for name in ("policy", "tables", "tokenizer")}
    identity = {"method": method, "model": model_metadata, **metadata, "rule": rule}
    if "wrap" in asked:
        identity["wrap"] = asked["wrap"]
    partial = Partial(Path(asked["out"]), identity)
    # It is removed only after the result is written: a failed write loses no measured step.
    measured = METHODS[method](model, draws.drawn, asked, partial)
    return measured[0], metadata | measured[1]


def _execution(contract: dict[str, Any], method: str) -> dict[str, Any]:
    """How the model was segmented: what the scores depend on beside model and text."""
    retrieval = {name: v for name, v in contract["retrieval"].items() if name != "layers"}
    return {
        "policy": contract["policy"]["name"],
        "segment": contract["segment"],
        "carry": contract["carry"],
        **({"retrieval": retrieval} if method in ("gates", "mixed") else {}),
    }


def _mass(
    model: Any, drawn: list[Any], asked: dict[str, Any], partial: Partial
) -> tuple[Scores, dict[str, Any]]:
    import torch

    from . import mass

    shape = len(model.layout.layers), model.layout.kv_heads
    state = partial.read() or {"done": 0, "queries": 0, "mass": torch.zeros(shape).tolist()}
    total_LH = torch.tensor(state["mass"], dtype=torch.float64)
    queries, begun = state["queries"], state["done"]
    job.emit("progress", stage="mass", done=begun, total=len(drawn))
    for done, one in enumerate(drawn[begun:], begun + 1):
        job.check_cancelled()
        mass_LH, count = mass.measure(model, one.ids, one.boundaries)
        total_LH, queries = total_LH + mass_LH, queries + count
        partial.write({"done": done, "queries": queries, "mass": total_LH.tolist()})
        job.emit("progress", stage="mass", done=done, total=len(drawn))
    if not queries:
        raise LockstepError(
            "LS_PROFILE_LENGTH",
            "expected queries with keys beyond their window, got none in these texts",
            "Give a larger --length.",
            "length",
        )
    return (total_LH / queries).tolist(), {}


def _gates(
    model: Any, drawn: list[Any], asked: dict[str, Any], partial: Partial
) -> tuple[Scores, dict[str, Any]]:
    from .gates import GateTraining

    truncation = model.contract.document["training"]["truncation"]
    training = GateTraining(model, asked["steps"], asked["penalty"], truncation)
    state = partial.read()
    if state is not None:
        training.load(state)
    begun = len(training.curve)
    job.emit("progress", stage="gates", done=begun, total=asked["steps"])
    for done, one in enumerate(drawn[begun : asked["steps"]], begun + 1):
        job.check_cancelled()
        error, gate = training.step(one.ids, one.boundaries)
        partial.write(training.state())
        job.emit("progress", stage="gates", done=done, total=asked["steps"], error=error, gate=gate)
    return training.scores(), {"curve": training.curve}


def _recall(
    model: Any, drawn: list[Any], asked: dict[str, Any], partial: Partial
) -> tuple[Scores, dict[str, Any]]:
    from . import recall

    return recall.run(model, drawn, asked, partial)


def _mixed(
    model: Any, drawn: list[Any], asked: dict[str, Any], partial: Partial
) -> tuple[Scores, dict[str, Any]]:
    copied, of_copied = _recall(model, drawn, asked, partial.part("recall"))
    gated, of_gated = _gates(model, drawn, asked, partial.part("gates"))
    own = {"scoresOf": {"recall": copied, "gates": gated}}
    return choose.mixed(copied, gated), of_copied | of_gated | own


METHODS = {"mass": _mass, "gates": _gates, "recall": _recall, "mixed": _mixed}


def _result(
    model: dict[str, str],
    method: str,
    long: choose.Long,
    scores: Scores | None,
    metadata: dict[str, Any],
) -> dict[str, Any]:
    return {
        "method": method,
        "model": model,
        "heads": {"long": long},
        "retrieval": {"layers": [layer for layer, heads in enumerate(long) if heads]},
        "scores": scores,
        **metadata,
    }


if __name__ == "__main__":
    job.main(run)
