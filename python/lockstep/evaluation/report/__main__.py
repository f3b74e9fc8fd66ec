"""Job of `lockstep report`: measures a checkpoint, and the model it was trained from beside it.

``{dir, base?, text, skip, tokens, threads?, device}`` -> see `run`.
"""

from __future__ import annotations

import gc
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...bridge import job
from ...contract.reader import is_trained, read
from ...contract.spec import Spec
from ...errors import LockstepError
from ...loader import load_module
from ...operator.model import Model
from ...tokenizer.first_tokens import encode, first_tokens
from ...training.manifest import sha256
from ...training.progress import STATE, read_progress, read_state
from .passes import Pass, full_attention, segmented
from .retrieval_maps import retrieval_maps

BINS = 32  # points of a curve by position
DEFAULT_SEQUENCE, MOST = 1024, 8192


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Measure what the report shows.

    Result: ``text`` {file, skip, tokens}; ``lengths``; ``ways`` {trainedSegmented, trainedFull,
    baseSegmented, baseFull} each {perplexity by length, bins, points}; ``bin`` tokens of a bin;
    ``retrieved``; ``contract`` and ``training`` as the checkpoint has them; ``base`` its folder or
    None. A checkpoint that was never trained has the base ways alone, one whose base nobody names
    the trained ways alone.
    """
    folder = Path(description["dir"])
    if description.get("threads"):
        torch.set_num_threads(description["threads"])
    contract = read(folder)
    document = contract.document
    training = _training(folder)
    base = _base(folder, description.get("base"), training, document)
    ids = _tokens(folder, description, training, document["tokenizer"]["bos"])
    lengths = sorted({len(ids) >> shift for shift in range(4)} - {0, 1})
    width = max(1, math.ceil((len(ids) - 1) / BINS))
    ways: dict[str, Any] = {}
    retrieved = None
    sources = [("trained" if is_trained(document) else "base", folder)]
    if base is not None and sources[0][0] == "trained":
        sources.append(("base", base))
    done, total = 0, 2 * len(sources)
    for name, source in sources:
        job.emit("progress", stage=f"loading {source.name}", done=done, total=total)
        module = load_module(source, device=description["device"])
        model = Model(module, Spec.from_contract(contract), contract)
        full_attention(model, ids[:64], [min(64, len(ids))])  # what the first run allocates
        job.emit("progress", stage=f"{name}, segmented", done=done, total=total)
        own = segmented(model, ids)
        ways[f"{name}Segmented"] = _way(own, lengths, width)
        if retrieved is None:
            retrieved = retrieval_maps(own, model.spec.sinks, len(ids))
        job.emit("progress", stage=f"{name}, full attention", done=done + 1, total=total)
        # Time by length is measured once: the two models differ in their weights alone.
        stock = full_attention(model, ids, lengths if done == 0 else lengths[-1:])
        ways[f"{name}Full"] = _way(stock, lengths, width)
        done += 2
        del module, model, own, stock
        gc.collect()
    return {
        "text": {
            "file": description["text"],
            "skip": description.get("skip", 0),
            "tokens": len(ids),
        },
        "lengths": lengths,
        "bin": width,
        "ways": ways,
        "retrieved": retrieved,
        "contract": _summary(document),
        "training": training,
        "base": None if base is None else str(base),
    }


def _way(run: Pass, lengths: list[int], width: int) -> dict[str, Any]:
    nll = run.nll
    if not all(map(math.isfinite, nll)):
        at = next(i for i, loss in enumerate(nll) if not math.isfinite(loss))
        raise LockstepError(
            "LS_REPORT_NAN",
            f"expected finite losses, got {nll[at]} after token {at}",
            "The weights are broken: use an earlier checkpoint, or a lower learning rate.",
        )
    bins = [nll[at : at + width] for at in range(0, len(nll), width)]
    return {
        # exp of more than 700 nats is no number of float64.
        "perplexity": {str(n): math.exp(min(700.0, sum(nll[: n - 1]) / (n - 1))) for n in lengths},
        "bins": [sum(part) / len(part) for part in bins],
        "points": [asdict(point) for point in run.points],
    }


def _training(folder: Path) -> dict[str, Any] | None:
    """What `training/state.json` says, or None: it may be deleted, and attach writes none."""
    if not (folder / STATE).is_file():
        return None
    try:
        state, progress = read_state(folder), read_progress(folder)
    except (LockstepError, OSError, ValueError, KeyError, TypeError) as error:
        raise LockstepError(
            "LS_REPORT_STATE",
            f"expected the state of a training in {folder / STATE}, got: {error}",
            "Delete the folder training/ to report without the training's curves.",
        ) from error
    return {
        "settings": state["settings"],
        "curve": progress.curve,
        "scores": progress.scores,
        "validations": progress.validations,
        "base": state.get("base"),
    }


def _base(
    folder: Path, given: str | None, training: dict[str, Any] | None, document: Any
) -> Path | None:
    """The model that the checkpoint was trained from, None where nothing says which.

    Raises ``LS_REPORT_BASE`` where it does not fit the contract: its figures would mean nothing.
    """
    if given and not is_trained(document):
        raise LockstepError(
            "LS_REPORT_BASE",
            f"expected no --base for {folder.name}, which was never trained, got {given}",
            "Leave it out: the checkpoint itself is the untrained model.",
            field="base",
        )
    recorded = None if training is None or not training["base"] else folder / training["base"]
    base = Path(given) if given else recorded
    if base is None:
        return None
    if not (base / "config.json").is_file():
        raise LockstepError(
            "LS_REPORT_BASE",
            f"expected the model that {folder.name} was trained from, got none at {base}",
            "Name its folder with --base.",
            field="base",
        )
    try:
        config = json.loads((base / "config.json").read_bytes())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise LockstepError(
            "LS_REPORT_BASE",
            f"expected a JSON object in {base / 'config.json'}, got something else",
            "Copy config.json again from the original checkpoint.",
            field="base",
        )
    tokenizer = base / "tokenizer.json"
    summed = sha256(tokenizer) if tokenizer.is_file() else "none"
    for what, wanted, got in (
        ("layers", len(document["heads"]["long"]), config.get("num_hidden_layers")),
        ("vocabulary", document["tokenizer"]["size"], config.get("vocab_size")),
        ("tokenizer.json", document["tokenizer"]["sha256"], summed),
    ):
        if wanted != got:
            raise LockstepError(
                "LS_REPORT_BASE",
                f"expected a base model with {what} {wanted}, got {got} in {base}",
                "Name the model that the training began from.",
                field="base",
            )
    return base


def _tokens(
    folder: Path, description: dict[str, Any], training: dict[str, Any] | None, bos: int | None
) -> list[int]:
    skip, count = description.get("skip", 0), description.get("tokens")
    if count is not None:
        return first_tokens(folder, description["text"], count, skip=skip, bos=bos)
    sequence = DEFAULT_SEQUENCE if training is None else int(training["settings"]["sequence"])
    wanted = min(8 * sequence, max(MOST, sequence))
    try:
        return first_tokens(folder, description["text"], wanted, skip=skip, bos=bos)
    except LockstepError as error:
        if error.code != "LS_TEXT_SHORT":
            raise
    # The whole of a short text, since no length was asked for.
    with Path(description["text"]).open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    ids = ([] if bos is None else [bos]) + encode(folder, text[skip:])
    if len(ids) < 16:
        raise LockstepError(
            "LS_TEXT_SHORT",
            f"expected at least 16 tokens in {description['text']}, got {len(ids)}",
            "Name a longer text with --text.",
        )
    return ids


def _summary(document: Any) -> dict[str, Any]:
    return {
        key: document.get(key)
        for key in ("digest", "segment", "carry", "retrieval", "heads", "training", "trained")
    } | {"policy": {k: document["policy"][k] for k in ("name", "params")}}


if __name__ == "__main__":
    job.main(run)
