"""Training as a job: `python -m lockstep.train`, started by `lockstep train` (src/cli/train.ts)."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from lockstep import job
from lockstep.training import launch
from lockstep.training.lock import exclusive
from lockstep.training.settings import read_job


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Train as ``description`` says (`Job` of training/settings.py); returns the result event.

    With several processes this one watches them, unless it is one of them (RANK is set, here or by
    torchrun): then it does its part.
    """
    checked = read_job(description)
    one_of_many = "RANK" in os.environ
    if checked.processes > 1 and not one_of_many:
        with exclusive(checked.out):
            return launch.run(description, checked.processes)
    with contextlib.nullcontext() if one_of_many else exclusive(checked.out):
        # torch takes seconds: bad settings fail before
        from lockstep.training.distributed import connect
        from lockstep.training.loop import Training

        return Training(checked, job.emit, job.cancelled, connect(checked.device)).run()


if __name__ == "__main__":
    job.main(run)
