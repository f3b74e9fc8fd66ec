"""The model that a training moves: its trained parameters, their optimizer, one optimizer step."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.loader import load_module
from lockstep.operator.model import Model
from lockstep.training import lora, memory, progress, trainable
from lockstep.training.data import TrainSequence, slots
from lockstep.training.distributed import Ranks
from lockstep.training.objective import Objective
from lockstep.training.preference import Preferences
from lockstep.training.reference import Reference
from lockstep.training.settings import Job

BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds of a model: whole tensors, whatever processes and adapters there are.

    weights: the stock module's by name, or None for the module's own. trained: of a training with
    adapters, every trained tensor by name. moments: AdamW's, `exp_avg.NAME` and so on.
    """

    module: Any
    weights: dict[str, Tensor] | None
    trained: dict[str, Tensor] | None
    moments: dict[str, Tensor]


class TrainState:
    """Loads the model that ``job`` starts from, or continues with when ``resumed``, and trains it.

    read: its `lockstep.contract.Contract`. dtype: of weights, gradients and moments.
    """

    def __init__(self, job: Job, read: Any, ranks: Ranks, resumed: bool, dtype: str = "float32"):
        s = job.training
        self.job, self.ranks = job, ranks
        # A merged checkpoint cannot be split: adapters continue from the base model's weights.
        directory = job.out if resumed and s.lora is None else job.model
        # In evaluation mode: no dropout, so that what is trained is what is served.
        module = load_module(directory, dtype=dtype, device=job.device)
        self.stock_parameters = sum(p.numel() for p in module.parameters())
        if s.lora is not None:
            lora.attach(module, s.lora, s.seed)
            trainable.select(module, s.trainable)
            if resumed:
                progress.read_trained(job.out, dict(module.named_parameters()))
        model = Model(module, Spec.from_contract(read), read)
        self.objective: Objective | Preferences
        if s.dpo is None:
            self.objective = Objective(model, job.attention, s.truncation, s.precision, s.recompute)
        else:
            reference = Reference(job, read, model, ranks.rank, dtype)
            self.objective = Preferences(
                model, job.attention, s.truncation, s.precision, s.recompute, s.dpo, reference
            )
        #: Of the last gradient: what its objective says beside the loss, means over the step.
        self.metrics: dict[str, float] = {}
        self.parameters = trainable.select(module, s.trainable)
        if job.shard:
            from lockstep.training import sharded

            sharded.shard(module, ranks, job.device)
            self.parameters = trainable.select(module, s.trainable)
        self.optimizer = torch.optim.AdamW(
            [{"params": group} for group in self._groups()],
            lr=s.learningRate,
            betas=BETAS,
            weight_decay=s.weightDecay,
            fused=True,
        )
        torch.manual_seed(s.seed)
        if resumed:
            self.restore(progress.read_moments(job.out))

    @property
    def model(self) -> Model:
        return self.objective.model

    @property
    def module(self) -> Any:
        return self.objective.model.module

    def step(self, docs: Sequence[TrainSequence], rate: float) -> tuple[float, float, int]:
        """Take one optimizer step with this process's sequences at learning rate ``rate``.

        Returns what `gradient` returns; nothing is changed where loss or norm is not finite.
        """
        loss, norm, tokens = self.gradient(docs)
        if math.isfinite(loss) and math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with self._fitting(self._parts(docs)):
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm, tokens

    def gradient(self, docs: Sequence[TrainSequence]) -> tuple[float, float, int]:
        """Put the clipped gradient over all processes' sequences in the parameters' ``.grad``.

        Returns, the same in every process: the mean loss in nats a target
        (or a row of two answers), the gradient's norm
        before clipping, the number of tokens. Raises LS_TRAIN_MEMORY where memory runs out.
        """
        s = self.job.training
        mine = [self.objective.count(docs), sum(len(doc.ids) for doc in docs)]
        targets, tokens = (int(x) for x in self.ranks.all_reduce_sum(mine))
        parts = self._parts(docs)
        passes = self._passes(parts)
        names = self.objective.metrics
        total = [0.0] * (1 + len(names))
        with self._fitting(parts):
            for part, n in zip(parts, passes, strict=True):
                found = self.objective.backward(part, targets, n)
                total = [a + b for a, b in zip(total, found, strict=True)]
            norm = self._reduce(s.clip if s.clip else math.inf)
        loss, *more = (x / targets for x in self.ranks.all_reduce_sum(total))
        self.metrics = dict(zip(names, more, strict=True))
        return loss, norm, tokens

    @contextlib.contextmanager
    def _fitting(self, parts: list[list[TrainSequence]]) -> Iterator[None]:
        """Turn what happens where memory runs out into LS_TRAIN_MEMORY for a step of ``parts``."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not memory.ran_out(error):
                raise
            # The frames of the failed pass hold its graphs.
            traceback.clear_frames(error.__traceback__)
            self.optimizer.zero_grad(set_to_none=True)
            raise memory.explained(self.job, self.model, parts) from error

    def snapshot(self) -> Snapshot:
        """What is to be saved; with several processes a meeting of all of them.

        Raises LS_TRAIN_NAN where a trained weight is not finite.
        """
        bad = [n for n, p in self.parameters.items() if not bool(_local(p).isfinite().all())]
        if any(self.ranks.all_reduce_sum([len(bad)])):
            raise LockstepError(
                "LS_TRAIN_NAN",
                f"expected finite weights, got NaN or infinity in {bad[0] if bad else 'a shard'}",
                "Lower training.learningRate; the last good checkpoint is unchanged.",
            )
        moments = {
            f"{key}.{name}": self._whole(value)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        trained, weights = None, None
        if self.job.training.lora is not None:
            trained = {n: self._whole(p) for n, p in self.parameters.items()}
            weights = {n: self._whole(w) for n, w in lora.merged(self.module).items()}
        elif self.job.shard:
            weights = {n: self._whole(w) for n, w in self.module.state_dict().items()}
        return Snapshot(self.module, weights, trained, moments)

    def restore(self, moments: dict[str, Tensor]) -> None:
        """Take over the optimizer's state of a `Snapshot`."""
        for name, parameter in self.parameters.items():
            found = {
                key: moments[f"{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in moments
            }
            if found:
                self.optimizer.state[parameter] = {
                    key: self._placed(key, value, parameter) for key, value in found.items()
                }

    def _groups(self) -> list[list[nn.Parameter]]:
        """Parameters for the optimizer; fused kernels take shards and whole tensors apart."""
        if not self.job.shard:
            return [list(self.parameters.values())]
        from lockstep.training.sharded import is_shard

        groups: list[list[nn.Parameter]] = [[], []]
        for parameter in self.parameters.values():
            groups[is_shard(parameter)].append(parameter)
        return [group for group in groups if group]

    def _parts(self, docs: Sequence[TrainSequence]) -> list[list[TrainSequence]]:
        """What runs together: ``batch`` sequences at a time, as often in every process."""
        size, packed = self.job.training.batch, slots(docs)
        parts = [
            [doc for slot in packed[at : at + size] for doc in slot]
            for at in range(0, len(packed), size)
        ]
        if self.job.shard:
            parts += [[]] * (self.ranks.all_reduce_max([len(parts)])[0] - len(parts))
        return parts

    def _passes(self, parts: list[list[TrainSequence]]) -> Sequence[int | None]:
        if not self.job.shard:
            return [None] * len(parts)
        return self.ranks.all_reduce_max([self.objective.passes(part) for part in parts])

    def _reduce(self, largest: float) -> float:
        """Sum the gradient over the processes and clip it; its norm before."""
        if not self.job.shard:
            self.ranks.all_reduce_gradients(self.parameters.values())
            return float(nn.utils.clip_grad_norm_(self.parameters.values(), largest))
        from lockstep.training import sharded

        self.ranks.all_reduce_gradients(
            p for p in self.parameters.values() if not sharded.is_shard(p)
        )
        return sharded.clip(self.parameters.values(), largest)

    def _placed(self, key: str, value: Tensor, parameter: nn.Parameter) -> Tensor:
        """A part of the optimizer's state where its kernels want it; ``step`` is never a shard."""
        if key == "step" or not self.job.shard:
            return value.to(parameter.device)
        from lockstep.training import sharded

        return sharded.shard_like(value, parameter)

    def _whole(self, tensor: Tensor) -> Tensor:
        if not self.job.shard:
            return tensor.detach().contiguous()
        from lockstep.training import sharded

        return sharded.full_tensor(tensor.detach()).contiguous()


def _local(parameter: Tensor) -> Tensor:
    local: Tensor = getattr(parameter, "_local_tensor", parameter)
    return local.detach()
