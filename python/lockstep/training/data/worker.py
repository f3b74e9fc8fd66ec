"""A worker of `Prefetcher`: `python -m lockstep.training.data.worker`, JSON lines both ways.

The first line describes the work, every other one is a window [file, first token, last token]; the
answer is the list of its boundaries, or an object with the error. It ends with its stdin.
"""

from __future__ import annotations

import json
import signal
import sys
from types import SimpleNamespace
from typing import TextIO

from lockstep.contract.planner import Planner
from lockstep.errors import LockstepError

from .prefetch import with_bos
from .store import Tokens


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer until ``requests`` ends, or nobody reads any more."""
    work = json.loads(requests.readline())
    tokens = Tokens([(path, dtype) for path, dtype in work["files"]])
    planner: Planner | None = None
    for line in requests:
        try:
            if planner is None:
                source = SimpleNamespace(document=work["contract"], policy_source=work["policy"])
                planner = Planner(source)
            answer = json.dumps(
                planner.plan(with_bos(tokens.read(*json.loads(line)).tolist(), work["bos"]))
            )
        except LockstepError as error:
            answer = json.dumps(error.as_dict())
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to answer
    try:
        serve(sys.stdin, sys.stdout)
    except BrokenPipeError:
        pass
    finally:
        sys.stdout = None  # nothing to flush into a broken pipe
