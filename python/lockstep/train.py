"""Training as a job: `python -m lockstep.train`, started by `lockstep train` (src/cli/train.ts)."""

from __future__ import annotations

from typing import Any

from lockstep import job
from lockstep.training.lock import exclusive
from lockstep.training.settings import read_job


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Train as ``description`` says (`Job` of training/settings.py); returns the result event."""
    checked = read_job(description)
    with exclusive(checked.out):
        from lockstep.training.loop import Training  # torch takes seconds: bad settings fail before

        return Training(checked, job.emit, job.cancelled).run()


if __name__ == "__main__":
    job.main(run)
