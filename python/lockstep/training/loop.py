"""The training loop: sequences -> segments -> gradient of L_K -> AdamW -> checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer
from torch import nn

from lockstep import contract
from lockstep.errors import LockstepError
from lockstep.loader import load_module
from lockstep.model import Model
from lockstep.spec import Spec
from lockstep.training import carried, checkpoint, data, history, plot, progress, trainable
from lockstep.training.data import Corpus, Drawn, Sequences
from lockstep.training.objective import Objective
from lockstep.training.progress import Progress
from lockstep.training.resume import identity, own_contract, resumable
from lockstep.training.schedule import Budget, learning_rate
from lockstep.training.settings import Job

BETAS = (0.9, 0.95)
PLOT_SECONDS = 15.0
Emit = Callable[..., None]


class Training:
    """One training from its first step, or from a checkpoint, to the end of its budget."""

    def __init__(self, job: Job, emit: Emit, cancelled: Callable[[], bool]):
        job = history.prepare(job, emit)
        self.job, self.emit, self.cancelled = job, emit, cancelled
        self.read = contract.read(job.model)
        self.contract = own_contract(job, self.read.document)
        self.identity = identity(job, self.contract)
        resumed = resumable(job, self.contract) if job.resume else None
        self.first_save = resumed is None
        self.carried = carried.read(job.model)
        self.corpus = self._corpus()
        self.objective = self._objective(job.out if resumed else job.model)
        self.parameters = trainable.select(self.objective.model.module, job.training.trainable)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=job.training.learningRate,
            betas=BETAS,
            weight_decay=job.training.weightDecay,
            fused=True,
        )
        torch.manual_seed(job.training.seed)
        if resumed is None:
            earlier = self.contract.get("trained") if job.mode == "segmented" else None
            self.progress = Progress(start=earlier or {"steps": 0, "tokens": 0})
        else:
            self.progress = resumed
            progress.read_optimizer(job.out, self.optimizer, self.parameters)
        self.budget = Budget(
            job.training.steps, job.training.minutes, self.progress.step, self.progress.seconds
        )
        self.sequences = Sequences(
            self.corpus.documents,
            job.training.sequence,
            job.training.seed,
            self.contract["tokenizer"]["bos"],
            self.read,
        )

    def run(self) -> dict[str, Any]:
        """Train until the budget is spent or someone asks to stop; returns the `result` event."""
        self._announce()
        if self.progress.step == 0:
            self._score("before")
        saved = plotted = time.monotonic()
        unsaved = False
        while not self.budget.done and not self.cancelled():
            self._step()
            unsaved = True
            now = time.monotonic()
            if self._due(now - saved):
                self._save()
                unsaved, saved = False, time.monotonic()
            if now - plotted >= PLOT_SECONDS:
                self._plot()
                plotted = time.monotonic()
        if self.budget.done and "after" not in self.progress.scores:
            self._score("after")
            unsaved = unsaved or "after" in self.progress.scores
        if unsaved:
            self._save()
        self._plot()
        return self._result()

    def _corpus(self) -> Corpus:
        job = self.job
        path = job.model / "tokenizer.json"
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise LockstepError(
                "LS_TRAIN_TOKENIZER", f"expected a tokenizer at {path}, got: {error}"
            ) from error
        size = self.contract["tokenizer"]["size"]
        self.held_out = (
            data.load(job.training.heldOut, job.root, self.tokenizer, size).documents
            if job.training.heldOut
            else []
        )
        return data.load(job.training.data, job.root, self.tokenizer, size)

    def _objective(self, directory: Path) -> Objective:
        # In evaluation mode: no dropout, so that what is trained is what is served.
        module = load_module(directory, device=self.job.device)
        model = Model(module, Spec.from_contract(self.contract), self.read)
        s = self.job.training
        return Objective(model, self.job.mode, s.truncation, s.precision)

    def _step(self) -> None:
        s, began = self.job.training, time.monotonic()
        docs = self.sequences.take(self.progress.cursor, s.batch)
        targets = sum(len(doc.ids) - 1 for doc in docs)
        rate = learning_rate(self.budget.next_progress, s.learningRate, s.warmup, s.finalRate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.objective.backward(docs, targets) / targets
        norm = float(
            nn.utils.clip_grad_norm_(self.parameters.values(), s.clip if s.clip else math.inf)
        )
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._refuse(loss, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._count(docs, loss, rate, norm, time.monotonic() - began)

    def _count(
        self, docs: list[Drawn], loss: float, rate: float, norm: float, seconds: float
    ) -> None:
        state, tokens = self.progress, sum(len(doc.ids) for doc in docs)
        self.budget.add(seconds)
        state.step, state.seconds = self.budget.step, self.budget.seconds
        state.tokens += tokens
        state.curve.append([state.step, state.tokens, state.seconds, loss, rate, norm])
        self.emit(
            "step",
            step=state.step,
            steps=self.budget.steps,
            loss=loss,
            learningRate=rate,
            gradientNorm=norm,
            tokens=state.tokens,
            tokensPerSecond=tokens / seconds,
            memory=memory(),
            seconds=state.seconds,
            progress=self.budget.progress,
            eta=self.budget.eta,
        )

    def _refuse(self, loss: float, norm: float) -> None:
        what = f"a loss of {loss}" if not math.isfinite(loss) else f"a gradient norm of {norm}"
        kept = (
            f"{self.job.out} holds the last good checkpoint"
            if (self.job.out / progress.STATE).is_file()
            else "no checkpoint was written yet"
        )
        raise LockstepError(
            "LS_TRAIN_NAN",
            f"expected finite numbers at step {self.progress.step + 1}, got {what}; {kept}",
            "Lower training.learningRate or raise training.warmup, and start again or --resume.",
        )

    def _announce(self) -> None:
        self.emit(
            "start",
            mode=self.job.mode,
            model=self.job.base.name,
            out=str(self.job.out),
            parameters=sum(p.numel() for p in self.objective.model.module.parameters()),
            trainable=sum(p.numel() for p in self.parameters.values()),
            documents=len(self.corpus.documents),
            tokens=self.corpus.tokens,
            skipped=[{"path": path, "reason": reason} for path, reason in self.corpus.skipped],
            step=self.progress.step,
            steps=self.budget.steps,
            minutes=self.budget.minutes,
            curve=self.progress.curve,
        )

    def _score(self, when: str) -> None:
        """Mean loss of the held-out text, each file from its start."""
        total, targets = 0.0, 0
        bos = self.contract["tokenizer"]["bos"]
        for document in self.held_out:
            if self.cancelled():
                return
            ids = document.ids_N[: self.job.training.heldOutTokens].tolist()
            nll = self.objective.nll(ids if bos is None else [bos, *ids])
            total, targets = total + float(nll.sum()), targets + len(nll)
        if targets:
            self.progress.scores[when] = total / targets
            self.emit("score", when=when, loss=total / targets, targets=targets)

    def _due(self, seconds: float) -> bool:
        """True where a checkpoint is to be written, ``seconds`` after the last one."""
        s = self.job.training
        by_steps = s.saveEvery is not None and self.progress.step % s.saveEvery == 0
        return by_steps or (s.saveMinutes is not None and seconds >= 60 * s.saveMinutes)

    def _save(self) -> None:
        began = time.monotonic()
        checkpoint.save(
            self.job,
            self.objective.model.module,
            self.contract if self.job.mode == "segmented" else None,
            self.parameters,
            self.optimizer,
            self.progress,
            len(self.corpus.documents),
            self.identity,
            self.carried,
            self.first_save,
        )
        self.first_save = False
        self.emit(
            "saved",
            path=str(self.job.out),
            step=self.progress.step,
            seconds=time.monotonic() - began,
        )

    def _plot(self) -> None:
        if self.job.plot is not None and self.progress.curve:
            plot.write_png(self.job.plot, self.progress.curve, f"Training of {self.job.out.name}")

    def _result(self) -> dict[str, Any]:
        state = self.progress
        last = [row[3] for row in state.curve[-max(1, len(state.curve) // 10) :]]
        return {
            "out": str(self.job.out),
            "stopped": not self.budget.done,
            "step": state.step,
            "steps": self.budget.steps,
            "tokens": state.tokens,
            "seconds": state.seconds,
            "loss": sum(last) / len(last) if last else None,
            "scores": state.scores,
            "trained": state.trained() if self.job.mode == "segmented" else None,
        }


def memory() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)
