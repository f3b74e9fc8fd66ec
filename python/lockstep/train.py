"""Training as a job: ``python -m lockstep.train``.

`lockstep train` starts it (src/cli/train/command.ts).
"""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path
from typing import Any

from lockstep import collector
from lockstep.bridge import job
from lockstep.training import launch
from lockstep.training.lock import exclusive
from lockstep.training.settings import read_job

#: A file with the description, written by `lockstep train --job FILE`, for torchrun's processes.
JOB = "LOCKSTEP_JOB"


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Train as ``description`` says (`Job` of training/settings.py); returns the result event.

    With several processes this one watches them, unless it is one of them (RANK is set, here or by
    torchrun): then it does its part.
    """
    one_of_many = "RANK" in os.environ
    if one_of_many:
        description["processes"] = int(os.environ["WORLD_SIZE"])
    checked = read_job(description)
    if checked.processes > 1 and not one_of_many:
        with exclusive(checked.out):
            return launch.run(description, checked.processes)
    # The process that started this one holds the lock, where it is ours. It may be killed: what it
    # started then ends its step and saves, under a lock that is rank 0's own.
    first = not one_of_many or os.environ["RANK"] == "0"
    name = "rank-lock" if one_of_many and JOB not in os.environ else "lock"
    with exclusive(checked.out, name) if first else contextlib.nullcontext():
        # torch takes seconds: bad settings fail before
        with collector.paused():
            from lockstep.training.distributed import init_process_group
            from lockstep.training.loop import Training

        ranks = init_process_group(checked.device)
        result = Training(checked, job.emit, job.cancelled, ranks).run()
        if not ranks.is_main_process:
            return {"rank": ranks.rank}
        if checked.attention == "segmented" and not result["stopped"]:
            _record_probe(checked.out, result["step"])
        return result


def _record_probe(out: Path, step: int) -> None:
    """Record the probe, which engines must reproduce before they serve the checkpoint.

    The checkpoint is complete without it, so a failure is only a warning.
    """
    from lockstep.training import lora
    from lockstep.verification import probe
    from lockstep.weights import adapter

    gc.collect()  # the training's own copies of the weights
    try:
        probe.record(out)
        if (out / lora.FOLDER).is_dir():
            probe.record_adapter(out, adapter.read(out / lora.FOLDER))
    except job.Cancelled:
        pass  # the training itself is done
    except Exception as error:
        told = job.as_error(error)
        message = f"no probe was recorded: {told['message']}"
        job.emit("warning", step=step, code=told["code"], message=message)


if __name__ == "__main__":
    if JOB in os.environ:
        # torchrun gives all its processes one standard input: each reads the file instead.
        os.dup2(os.open(os.environ[JOB], os.O_RDONLY), 0)
    job.main(run)
