"""The model card of a checkpoint: README.md of its directory."""

from __future__ import annotations

import math
from typing import Any

from lockstep.training.progress import Progress
from lockstep.training.settings import Dpo, Job
from lockstep.training.texts import Texts

ROWS = 10


def card(job: Job, contract: dict[str, Any] | None, progress: Progress, texts: Texts) -> str:
    """Markdown text. ``contract`` is None for the full-attention control."""
    name, base = job.out.name, job.base.name
    parts = [
        f"---\nlibrary_name: transformers\nbase_model: {base}\n"
        f"tags: [lockstep, {'segmented-execution' if contract else 'full-attention'}]\n---",
        f"# {name}",
        _what(base, contract),
        _contract(contract) if contract else "",
        _data(job, progress, texts),
        _curve(progress),
        _use(name) if contract else "",
        _limits(contract),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(base: str, contract: dict[str, Any] | None) -> str:
    if contract is None:
        return (
            f"`{base}`, trained further with ordinary full attention: the control for a segmented "
            "training of the same tokens. It carries no contract."
        )
    return (
        f"`{base}`, trained further in segments by Lockstep: the model runs through a text segment "
        "by segment, with a fixed amount of memory, and is served exactly as it was trained."
    )


def _contract(contract: dict[str, Any]) -> str:
    segment, carry, retrieval = contract["segment"], contract["carry"], contract["retrieval"]
    policy, all_layers = contract["policy"], contract["heads"]["long"]
    long = sum(len(heads) for heads in all_layers)
    rows = {
        "policy": f"`{policy['name']}` (policy.js, SHA-256 `{policy['sha256'][:16]}…`)",
        "segment": f"{segment['min']} to {segment['max']} tokens, multiples of {segment['align']}",
        "carry": f"last {carry['size']} tokens, and the first {carry['sinks']} (sinks)"
        + (", in all heads" if carry.get("heads") == "all" else ""),
        "retrieval": f"{retrieval['size']} rows, recipe `{retrieval['recipe']}`"
        + (
            f" ({retrieval['block']} rows each, scored by the last {retrieval['window']} queries "
            f"at distance {retrieval['distance']}), "
            if retrieval["recipe"] == "blocks"
            else ", "
        )
        + f"layers {', '.join(map(str, retrieval['layers'])) or 'none'}",
        "long KV heads": f"{long} over {len(all_layers)} layers",
        "gradient crosses": _count(contract["training"]["truncation"], "boundary"),
        "digest": f"`{contract['digest']}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"## Contract\n\n| | |\n| --- | --- |\n{table}"


def _data(job: Job, progress: Progress, texts: Texts) -> str:
    s = job.training
    chosen = [s.trainable] if isinstance(s.trainable, str) else list(s.trainable)
    if s.lora is not None:
        chosen.insert(
            0,
            f"LoRA of rank {s.lora.rank}, alpha {s.lora.alpha:g} on {', '.join(s.lora.modules)} "
            "(merged)",
        )
    trainable = ", ".join(chosen)
    fall = "" if s.schedule == "constant" else f" to {s.finalRate:.0%}"
    earlier = progress.start["steps"]
    return (
        "## Training\n\n"
        f"{progress.step} steps, {progress.tokens:,} tokens of "
        f"{_count(len(texts.corpus.documents), 'document')} "
        f"({', '.join(f'`{p}`' for p in s.data)})"
        + (f", after {earlier} earlier steps under the same contract" if earlier else "")
        + f". AdamW, learning rate {s.learningRate:g} (warm-up {s.warmup:.0%}, "
        f"{s.schedule}{fall}), weight decay {s.weightDecay:g}, clipping at {s.clip:g}; "
        f"sequences of {s.sequence} tokens, {s.sequences} a step; trained parameters: {trainable}; "
        f"{s.precision}; seed {s.seed}. {_preferences(s.dpo, progress)}{texts.sentence}"
    )


def _preferences(dpo: Dpo | None, progress: Progress) -> str:
    if dpo is None:
        return ""
    how = "averaged" if dpo.lengthNormalized else "summed"
    last = progress.preferences[-max(1, len(progress.preferences) // ROWS) :]
    margin, right = (sum(row[n] for row in last) / max(1, len(last)) for n in (1, 2))
    return (
        "Direct preference optimization (DPO), with the starting model as the reference: beta "
        f"{dpo.beta:g}, log-probabilities {how} over the tokens of an answer. In the last steps "
        f"the model preferred the better answer in {right:.0%} of the rows, with a mean margin "
        f"of {margin:.3f}. "
    )


def _curve(progress: Progress) -> str:
    curve = progress.curve
    if not curve:
        return ""
    width = math.ceil(len(curve) / ROWS)
    if progress.preferences:
        return _preferred_curve(progress, width)
    lines = [
        "| steps | tokens | mean loss (nats/token) | perplexity |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for at in range(0, len(curve), width):
        rows = curve[at : at + width]
        loss = sum(row[3] for row in rows) / len(rows)
        lines.append(
            f"| {rows[0][0]:.0f}-{rows[-1][0]:.0f} | {rows[-1][1]:,.0f} | {loss:.3f} "
            f"| {math.exp(min(loss, 700)):.2f} |"
        )
    scores = "".join(
        f"\n\nHeld-out text, {when}: {nll:.4f} nats/token, "
        f"perplexity {math.exp(min(nll, 700)):.2f}."
        for when, nll in progress.scores.items()
    )
    return "### Curve\n\n" + "\n".join(lines) + scores


def _preferred_curve(progress: Progress, width: int) -> str:
    lines = ["| steps | tokens | mean loss (nats/row) | margin | accuracy |", "| ---: " * 5 + "|"]
    for at in range(0, len(progress.curve), width):
        rows, judged = (x[at : at + width] for x in (progress.curve, progress.preferences))
        loss, margin, right = (
            sum(row[n] for row in some) / len(rows)
            for some, n in ((rows, 3), (judged, 1), (judged, 2))
        )
        lines.append(
            f"| {rows[0][0]:.0f}-{rows[-1][0]:.0f} | {rows[-1][1]:,.0f} | {loss:.3f} "
            f"| {margin:.3f} | {right:.0%} |"
        )
    scores = "".join(
        f"\n\nHeld-out rows, {when}: loss {loss:.4f} nats/row."
        for when, loss in progress.scores.items()
    )
    return "### Curve\n\n" + "\n".join(lines) + scores


def _use(name: str) -> str:
    return (
        "## Verify and serve\n\n```sh\n"
        f"lockstep verify {name}    # training forward against every serving engine\n"
        f"lockstep serve {name}     # OpenAI-compatible server\n```\n\n"
        "`config.json` names a Segmented architecture and a model_type of Lockstep's own, so that "
        "a program which does not know the contract refuses the model instead of running it with "
        f"other attention. A plain copy for that: `lockstep detach {name} --out PLAIN`."
    )


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def _limits(contract: dict[str, Any] | None) -> str:
    text = (
        "## Limits\n\nThe limits, biases and license of the base model apply. The loss above is on "
        "training text; judge the model on text of your own."
    )
    if contract is None:
        return text
    return text + (
        " What lies outside a segment, its carry and the sinks reaches the model only through "
        "retrieval, which gets no gradient. `training/` holds the optimizer's state for `--resume` "
        "and may be deleted."
    )
