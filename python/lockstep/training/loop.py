"""The training loop: sequences -> segments -> gradient of L_K -> AdamW -> checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lockstep.contract import reader as contract
from lockstep.errors import LockstepError
from lockstep.training import (
    checkpoint,
    checkpoint_rotation,
    logs,
    memory,
    plot,
    progress,
    sidecar_files,
)
from lockstep.training.data import Corpus, PairSequences, Sequences, pair_of
from lockstep.training.distributed import Ranks
from lockstep.training.divergence import WINDOW, LossMonitor
from lockstep.training.preference import Preferences
from lockstep.training.preflight import chance_warning, check_model
from lockstep.training.progress import NEVER, Progress
from lockstep.training.resume import identity, own_contract, resumable
from lockstep.training.schedule import Budget, learning_rate
from lockstep.training.settings import ATTENTION, Job
from lockstep.training.texts import open_texts
from lockstep.training.train_state import TrainState
from lockstep.training.validation import HeldOut, HeldOutRows

PLOT_SECONDS = 15.0
Emit = Callable[..., None]
ALONE = Ranks()


class Training:
    """One training from its first step, or from a checkpoint, to the end of its budget.

    Every process of a training makes one; they draw from the same data in the same order, and what
    rank 0 decides (to stop, to save, how much time has passed) holds for all.
    """

    def __init__(self, job: Job, emit: Emit, cancelled: Callable[[], bool], ranks: Ranks = ALONE):
        if ranks.is_main_process:
            job = checkpoint_rotation.recover(job, emit)
        ranks.broadcast([0.0])  # nobody looks at the checkpoint before it is in order
        self.job, self.ranks, self._emit, self.cancelled = job, ranks, emit, cancelled
        self.read = contract.read(job.model)
        self.contract = own_contract(job, self.read.document)
        self.identity = identity(job, self.contract)
        resumed = resumable(job, self.contract) if job.resume else None
        if resumed is not None and ranks.is_main_process:
            # What a kill after a save left.
            checkpoint_rotation.prune(job.out, job.training.keep or 1)
        self.first_save = resumed is None
        self.carried = sidecar_files.read(job.model)
        check_model(job.model)
        # Rank 0 tokenizes what is not yet in the cache; the others find it there.
        if not ranks.is_main_process:
            ranks.broadcast([0.0])
        self.corpus = self._corpus()
        if ranks.is_main_process:
            ranks.broadcast([0.0])
        self.train_state = TrainState(job, self.read, ranks, resumed is not None)
        if resumed is None:
            earlier = self.contract["trained"] if job.attention == "segmented" else NEVER
            self.progress = Progress(start={name: earlier[name] for name in NEVER})
        else:
            self.progress = resumed
        s = job.training
        self.budget = Budget(s.steps, s.minutes, self.progress.step, self.progress.seconds)
        self.monitor = LossMonitor(s.spike, s.patience, [row[3] for row in self.progress.curve])
        self.held_out = self._held_out()
        draw = Sequences if s.dpo is None else PairSequences
        self.sequences = draw(
            self.corpus.documents,
            s.sequence,
            s.seed,
            self.contract["tokenizer"]["bos"],
            self.read,
            s.texts.workers,
            lambda message: self.emit(
                "warning", step=self.progress.step, code="LS_TRAIN_WORKER", message=message
            ),
            s.texts.pack,
        )
        self.logs = logs.opened(job.logs, self.progress.step) if ranks.is_main_process else []

    def run(self) -> dict[str, Any]:
        """Train until the budget is spent or someone asks to stop; returns the `result` event."""
        try:
            return self._run()
        finally:
            self.sequences.close()
            for log in self.logs:
                with contextlib.suppress(OSError):
                    log.close()

    def _run(self) -> dict[str, Any]:
        self._announce()
        if self.progress.step == 0:
            self._score("before")
        every = self.job.training.validateEvery
        saved = plotted = time.monotonic()
        unsaved = False
        [stop] = self.ranks.broadcast([self.cancelled()])
        while not self.budget.done and not stop:
            self._step()
            unsaved = True
            if every and self.progress.step % every == 0 and not self.budget.done:
                self._score("during")
            now = time.monotonic()
            due, stop = self.ranks.broadcast([self._due(now - saved), self.cancelled()])
            # Weights from the middle of a row of spikes are not worth a good checkpoint.
            if due and not self.monitor.row:
                self._save()
                unsaved, saved = False, time.monotonic()
            if now - plotted >= PLOT_SECONDS:
                self._plot()
                plotted = time.monotonic()
        if self.budget.done and "after" not in self.progress.scores:
            self._score("after")
            unsaved = unsaved or "after" in self.progress.scores
        if unsaved and (self.budget.done or not self.monitor.row or self.first_save):
            self._save()
        elif unsaved:
            self._unsaved()
        self._plot()
        return self._result()

    def _corpus(self) -> Corpus:
        job = self.job
        emit = self._emit if self.ranks.is_main_process else lambda *_, **__: None
        self.texts = open_texts(job, self.contract["tokenizer"], emit, self.cancelled)
        return self.texts.corpus

    def _held_out(self) -> HeldOut | HeldOutRows:
        objective = self.train_state.objective
        if not isinstance(objective, Preferences):
            return HeldOut(self.texts.scored, self.ranks, self.job.shard)
        bos, plan = self.contract["tokenizer"]["bos"], objective.model.plan
        rows = [pair_of(document, bos, plan) for document in self.texts.rows]
        return HeldOutRows(rows, self.ranks, objective)

    def _step(self) -> None:
        s, began, state = self.job.training, time.monotonic(), self.progress
        docs = self.sequences.take(
            state.cursor, s.sequences, self.ranks.rank, self.ranks.world_size
        )
        rate = learning_rate(
            self.budget.next_progress, s.learningRate, s.warmup, s.finalRate, s.schedule
        )
        loss, norm, tokens = self.train_state.step(docs, rate)
        state.scores.pop("after", None)  # of a budget that has been made longer since
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._refuse(loss, norm)
        [seconds] = self.ranks.broadcast([time.monotonic() - began])
        self.budget.add(seconds)
        state.step, state.seconds = self.budget.step, self.budget.seconds
        state.tokens += tokens
        state.curve.append([state.step, state.tokens, state.seconds, loss, rate, norm])
        metrics = self.train_state.metrics
        if metrics:
            state.preferences.append([state.step, *metrics.values()])
        self.emit(
            "step",
            step=state.step,
            steps=self.budget.steps,
            loss=loss,
            **metrics,
            learningRate=rate,
            gradientNorm=norm,
            tokens=state.tokens,
            tokensPerSecond=tokens / seconds,
            memory=memory.used(),
            seconds=state.seconds,
            progress=self.budget.progress,
            eta=self.budget.eta,
        )
        if state.step == 1 and (warning := chance_warning(loss, self.train_state.model.vocabulary)):
            self.emit("warning", step=1, code="LS_TRAIN_CHANCE", message=warning)
        self._check_loss(loss)

    def _unsaved(self) -> None:
        """Stopped in a row of spikes: weights from there do not replace a good checkpoint."""
        self.emit(
            "warning",
            step=self.progress.step,
            code="LS_TRAIN_SPIKE",
            message=f"stopped with {self.monitor.row} spikes in a row, which are not saved: "
            f"{self.job.out} holds the last good checkpoint, and --resume continues from it",
        )

    def _check_loss(self, loss: float) -> None:
        """Report a spike; raise LS_TRAIN_DIVERGED where they no longer end, or the loss drifts."""
        usual = self.monitor.see(loss)
        if usual is None:
            if (level := self.monitor.drifted) is not None:
                self._drifted(level)
            return
        s, step = self.job.training, self.progress.step
        self.emit(
            "warning",
            step=step,
            code="LS_TRAIN_SPIKE",
            message=f"loss {loss:.2f} at step {step} is {loss - usual:.2f} nats per token above "
            f"the usual {usual:.2f} ({self.monitor.row} in a row; {s.patience} end the training)",
        )
        if self.monitor.lost:
            raise LockstepError(
                "LS_TRAIN_DIVERGED",
                f"expected the loss to return to {usual:.2f}, got {s.patience} steps in a row "
                f"more than {s.spike:g} nats per token above it (step {step}: {loss:.2f}); "
                f"{self._kept()}",
                "Lower training.learningRate or training.clip, or raise training.warmup; if the "
                "texts really differ that much, raise training.spike.",
            )

    def _drifted(self, level: float) -> None:
        raise LockstepError(
            "LS_TRAIN_DIVERGED",
            f"expected the loss to stay near {self.monitor.lowest:.2f}, the lowest level of "
            f"{WINDOW} steps, got {level:.2f} at step {self.progress.step}, more than "
            f"{self.job.training.spike:g} nats per token above it; {self._kept()}",
            "Lower training.learningRate; if the texts really differ that much, raise "
            "training.spike.",
        )

    def _refuse(self, loss: float, norm: float) -> None:
        what = f"a loss of {loss}" if not math.isfinite(loss) else f"a gradient norm of {norm}"
        raise LockstepError(
            "LS_TRAIN_NAN",
            f"expected finite numbers at step {self.progress.step + 1}, got {what}; {self._kept()}",
            "Lower training.learningRate or raise training.warmup, and start a new training with "
            "another `out`, from the start or with `model` naming that checkpoint: --resume "
            "continues with the same settings.",
        )

    def _kept(self) -> str:
        if (self.job.out / progress.STATE).is_file():
            return f"{self.job.out} holds the last good checkpoint"
        return "no checkpoint was written yet"

    def emit(self, event: str, **fields: Any) -> None:
        """Report an event: rank 0's alone."""
        if self.ranks.is_main_process:
            self._emit(event, **fields)
            broken: list[tuple[logs.Log, OSError]] = []
            for log in self.logs:
                try:
                    log.write(event, fields)
                except OSError as error:
                    broken.append((log, error))
            for log, _ in broken:
                self.logs.remove(log)
                with contextlib.suppress(OSError):
                    log.close()
            for log, why in broken:
                self._left_out(f"log {log.name}", why)

    def _announce(self) -> None:
        self.emit(
            "start",
            mode=self.job.attention,
            model=self.job.base.name,
            out=str(self.job.out),
            parameters=self.train_state.stock_parameters,
            trainable=sum(p.numel() for p in self.train_state.parameters.values()),
            processes=self.ranks.world_size,
            documents=len(self.corpus.documents),
            tokens=self.corpus.tokens,
            skipped=[{"path": path, "reason": reason} for path, reason in self.corpus.skipped],
            read=self.texts.told,
            step=self.progress.step,
            steps=self.budget.steps,
            minutes=self.budget.minutes,
            curve=self.progress.curve,
        )

    def _score(self, when: str) -> None:
        """Mean loss of the held-out text, run as it is trained, or (validateEvery) in both ways."""
        job, state = self.job, self.progress
        if isinstance(self.held_out, HeldOutRows):
            self._score_rows(self.held_out, when)
            return
        wanted = ATTENTION if job.training.validateEvery else (job.attention,)
        found = {}
        for attention in wanted:
            loss = self.held_out.score(self.train_state.model, attention, self.cancelled)
            if loss is None:
                return
            found[attention] = loss
        if when != "during":
            state.scores[when] = found[job.attention]
        if len(found) == len(ATTENTION):
            state.validations.append([state.step, *(found[name] for name in ATTENTION)])
        targets = self.held_out.targets
        self.emit(
            "score", when=when, step=state.step, loss=found[job.attention], targets=targets, **found
        )

    def _score_rows(self, held_out: HeldOutRows, when: str) -> None:
        found = held_out.score(self.cancelled)
        if found is None:
            return
        if when != "during":
            self.progress.scores[when] = found["loss"]
        targets = held_out.targets
        self.emit("score", when=when, step=self.progress.step, targets=targets, **found)

    def _due(self, seconds: float) -> bool:
        """True where a checkpoint is to be written, ``seconds`` after the last one."""
        s = self.job.training
        if self.budget.done:
            return False  # one is written at the end anyway
        by_steps = s.saveEvery is not None and self.progress.step % s.saveEvery == 0
        return by_steps or (s.saveMinutes is not None and seconds >= 60 * s.saveMinutes)

    def _save(self) -> None:
        began = time.monotonic()
        snapshot = self.train_state.snapshot()
        if not self.ranks.is_main_process:
            return
        checkpoint.save(
            self.job,
            snapshot,
            self.contract if self.job.attention == "segmented" else None,
            self.progress,
            self.texts,
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
        if not (self.ranks.is_main_process and self.job.plot is not None and self.progress.curve):
            return
        try:
            plot.write_png(self.job.plot, self.progress.curve, f"Training of {self.job.out.name}")
        except OSError as error:
            self.job = replace(self.job, plot=None)
            self._left_out("plot", error)

    def _left_out(self, what: str, error: OSError) -> None:
        """A picture or a log that cannot be written ends no training: said once, and left out."""
        message = f"the {what} cannot be written, and logging to it stops here: {error}"
        self.emit("warning", step=self.progress.step, code="LS_TRAIN_LOG", message=message)

    def _result(self) -> dict[str, Any]:
        state = self.progress
        tenth = max(1, len(state.curve) // 10)
        last = [row[3] for row in state.curve[-tenth:]]
        judged = state.preferences[-tenth:]
        means = {
            name: sum(row[1 + n] for row in judged) / len(judged)
            for n, name in enumerate(self.train_state.objective.metrics if judged else ())
        }
        return {
            "out": str(self.job.out),
            "stopped": not self.budget.done,
            "step": state.step,
            "steps": self.budget.steps,
            "tokens": state.tokens,
            "seconds": state.seconds,
            "loss": sum(last) / len(last) if last else None,
            **means,
            "scores": state.scores,
            "validations": state.validations,
            "trained": state.trained() if self.job.attention == "segmented" else None,
        }
