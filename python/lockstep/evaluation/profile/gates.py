"""A gate for every KV head between its two uses, trained with the model frozen.

Both uses of a head are run under segmented execution, local (sinks, carry, own segment) and long
(sinks, retrieved rows, own segment; every layer but 0 has a pool), and mixed:

    out = g * long + (1 - g) * local,      g = sigmoid(theta), at first 1/2

The gates minimize the squared distance of the last hidden states from those of full attention of
the same weights, as a share of the distance that all heads local have (1: the gates gain nothing,
0: nothing is left to gain), plus a penalty on their mean. The gradient is the exact one of the
truncated objective, as in training (`lockstep.tbptt`). What is taken from duo-attention
(mit-han-lab/duo-attention, duo_attn/train.py and patch/llama.py): one gate a KV head, mixed
outputs, the distance of last hidden states, a mean-gate penalty of 0.05, Adam, a rate that rises
and falls over a fifth of the steps. What differs: there the choice is between full and streaming
attention, the gates are clamped to [0, 1] from 1 on and the distance is not a share of anything. A
sigmoid leaves no two heads tied at a bound, and a share makes one penalty fit any model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from lockstep.baseline import full
from lockstep.operator.contexts import PackedSpan
from lockstep.operator.head_groups import Group, HeadGroups
from lockstep.operator.model import Model
from lockstep.training import tbptt

from .choose import FIRST

RATE = 0.1  # of theta: a gate at 1/2 then moves by 0.025 a step, as duo-attention's by 0.02
RAMP = 5  # the rate rises over a fifth of the steps, and falls over the last fifth
Numbers = list[Any]


@dataclass(frozen=True)
class GatedHeadGroups(HeadGroups):
    """Every layer from `FIRST` on runs all its heads twice; ``theta_LH`` mixes the two."""

    theta_LH: Tensor

    @classmethod
    def around(cls, layout: HeadGroups, theta_LH: Tensor, all_carry: bool) -> GatedHeadGroups:
        kv = tuple(range(layout.kv_heads))
        every = slice(0, layout.kv_heads), slice(0, layout.q_heads)
        layers: list[tuple[Group, ...]] = []
        for layer in range(len(layout.layers)):
            local, long = (
                Group(layer, True, True, False, kv, *every),
                Group(layer, False, all_carry, True, kv, *every),
            )
            layers.append((local,) if layer < FIRST else (local, long))
        same = (None,) * len(layers)
        return cls(tuple(layers), same, layout.kv_heads, layout.q_heads, layout.head_dim, theta_LH)

    def merge(self, layer: int, parts_HTD: Sequence[Tensor]) -> Tensor:
        if layer < FIRST:
            return parts_HTD[0]
        gate_H = self.theta_LH[layer - FIRST].sigmoid()
        gate_H = gate_H.repeat_interleave(self.q_heads // self.kv_heads)
        return torch.lerp(parts_HTD[0], parts_HTD[1], gate_H[:, None, None].to(parts_HTD[0].dtype))


class GatedModel(Model):
    """A model whose heads are mixed by gates. Runs in the step forms and in training."""

    def __init__(self, model: Model, theta_LH: Tensor):
        layers, kv_heads = len(model.layout.layers), model.layout.kv_heads
        every = tuple(range(kv_heads))
        spec = dataclasses.replace(
            model.spec,
            retrieval_layers=tuple(range(FIRST, layers)),
            long_heads=tuple(() if layer < FIRST else every for layer in range(layers)),
        )
        super().__init__(model.module, spec, model.contract)
        self.layout = GatedHeadGroups.around(model.layout, theta_LH, spec.all_carry)

    def _parallel(self, *_: Any, **__: Any) -> NoReturn:
        # That form writes each group's output in place, so the second would hide the first.
        raise AssertionError("gated heads run step by step")


def start(model: Model) -> Tensor:
    """theta of every head of the layers from `FIRST` on, [L - FIRST, H]: gates of 1/2."""
    shape = len(model.layout.layers) - FIRST, model.layout.kv_heads
    return torch.zeros(shape, dtype=model.dtype, device=model.device, requires_grad=True)


def backward(
    gated: GatedModel,
    theta_LH: Tensor,
    docs: Sequence[tuple[Any, Sequence[int]]],
    teachers: Sequence[Tensor],
    whole: float,
    truncation: int,
) -> float:
    """Add to ``theta_LH.grad`` the gradient of the error over these documents; returns the error.

    ``teachers`` are the hidden states [T, E] aimed at; the error is the sum of squared differences
    as a share of ``whole``.
    """

    def score(hidden_TE: Tensor, rows: Sequence[tuple[int, PackedSpan]]) -> tuple[float, Tensor]:
        aim_TE = torch.cat([teachers[d][p.start : p.start + p.length] for d, p in rows])
        gap_TE = hidden_TE - aim_TE
        return float(gap_TE.double().square().sum()) / whole, gap_TE * (2 / whole)

    return tbptt.backward(gated, docs, truncation, score=score, inputs=[theta_LH]).sum


def distance(x_TE: Tensor, y_TE: Tensor) -> float:
    """Sum of squared differences."""
    return float((x_TE - y_TE).double().square().sum())


def rate(step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0."""
    ramp = max(1, steps // RAMP)
    return RATE * min(1.0, max(0.1, (step + 1) / ramp), max(0.1, (steps - step) / ramp))


class GateTraining:
    """Gates, their optimizer and the curve so far; `state` and `load` carry them over an end.

    ``model`` has no long heads: that is what the gates must beat.
    """

    def __init__(self, model: Model, steps: int, penalty: float, truncation: int):
        self.model, self.steps, self.penalty, self.truncation = model, steps, penalty, truncation
        for weight in model.module.parameters():
            weight.requires_grad_(False)
        self.theta_LH = start(model)
        self.gated = GatedModel(model, self.theta_LH)
        self.optimizer = torch.optim.Adam([self.theta_LH], lr=RATE)
        #: [error, mean gate] of every step
        self.curve: list[list[float]] = []

    def step(self, ids: Any, cuts: Sequence[int]) -> tuple[float, float]:
        """One optimizer step on one sequence; its error and the mean gate before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(len(self.curve), self.steps)
        teacher_TE = full.hidden(self.model, ids)
        local_TE = self.model.hidden(ids, cuts)
        # Where nothing is lost there is no gradient either, and nothing to divide by.
        lost = distance(local_TE, teacher_TE) or 1.0
        docs = [(ids, cuts)]
        error = backward(self.gated, self.theta_LH, docs, [teacher_TE], lost, self.truncation)
        mean = self.theta_LH.sigmoid().mean()
        (self.penalty * mean).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.curve.append([error, float(mean.detach())])
        return error, float(mean.detach())

    def scores(self) -> list[list[float]]:
        """Gates in float64, [L, H]; 0 in the layers that never retrieve."""
        gates = self.theta_LH.detach().double().sigmoid().tolist()
        return [[0.0] * self.theta_LH.shape[1]] * FIRST + gates

    def state(self) -> dict[str, Any]:
        """JSON from which `load` continues to the very same gates."""
        moments = self.optimizer.state[self.theta_LH]
        return {
            "curve": self.curve,
            "theta": self.theta_LH.tolist(),
            "mean": moments["exp_avg"].tolist(),
            "square": moments["exp_avg_sq"].tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        like = self.theta_LH
        tensor = lambda rows: torch.tensor(rows, dtype=like.dtype, device=like.device)  # noqa: E731
        self.curve = state["curve"]
        with torch.no_grad():
            self.theta_LH.copy_(tensor(state["theta"]))
        self.optimizer.state[self.theta_LH] = {
            "step": torch.tensor(float(len(self.curve))),
            "exp_avg": tensor(state["mean"]),
            "exp_avg_sq": tensor(state["square"]),
        }
