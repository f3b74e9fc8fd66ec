"""Kills trainings at every moment that leaves another state of the disk, and resumes them.

usage: python bench/training/kills.py [--case NAME ...] [--out FILE.jsonl] [--every N]

A tiny model is trained for a few steps with a checkpoint after each. The kernel halts the process
before each system call that changes the checkpoint's folder (mkdir, open, write, fsync, chmod,
rename, unlink: test/python/faults/disk_calls.py), and there it gets SIGKILL: one run for every such
call, for every write cut in half, and for every event that the trainer reports (each step's end).
Then `--resume`, undisturbed. Written for each kill: the SHA-256 of all files at the end (the one
file that may differ, training/clock.json, left out), whether they are those of a training that
nobody disturbed, whether every checkpoint visible at the moment of the kill was whole, and how
many steps had to be done again although they had been reported as saved.

Exit code 1 where one hash differs. Linux on x86-64.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT / "python"), str(ROOT / "test/python")]
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from faults import disk_calls  # noqa: E402
from faults.disk_calls import Ended, Fault  # noqa: E402
from faults.trainings import (  # noqa: E402
    LORA,
    Case,
    Survived,
    Trainings,
    hashes,
    home,
    survive,
    survive_event,
)
from machine import header  # noqa: E402
from training_run import SETTINGS  # noqa: E402

# The first is killed everywhere; of the others only what the first has not: from the swap of the
# last checkpoint on, and at the events.
CASES = (
    Case("keep 2", keep=2),
    Case("keep 1"),
    Case("keep 3, 4 steps", keep=3, steps=4),
    Case("keep 1, names cannot be exchanged", swap=False),
    Case("keep 2, names cannot be exchanged", keep=2, swap=False),
    Case("full attention", attention="full", keep=2),
    Case("held-out text, a checkpoint every 2 of 3 steps", held_out=True, save_every=2),
    Case("LoRA, 2 x 1 sequences, recomputed, validated", keep=2, held_out=True, more=LORA),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "kills.jsonl")
    parser.add_argument("--every", type=int, default=1, help="only every N-th kill")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, args.out.open("w") as log:
        place = Path(scratch)
        started = home(place / "home")
        write(log, header("python bench/training/kills.py " + " ".join(sys.argv[1:])))
        kills = bad = 0
        for case in CASES:
            if args.case and case.name not in args.case:
                continue
            trainings = Trainings(started, place / "run", case, SETTINGS)
            for number, (survived, summed) in enumerate(kill(trainings, log, args.every)):
                kills += 1
                bad += not survived.well
                write(log, line(case, survived, summed))
                if number % 10 == 0:
                    say(f"{case.name}: {number + 1} kills, {bad} bad", end="\r")
            say(f"{case.name}: done, {kills} kills so far, {bad} bad")
        write(log, {"kills": kills, "bad": bad})
    say(f"{kills} kills, {bad} of them with another result or a broken checkpoint: {args.out}")
    sys.exit(1 if bad else 0)


def kill(trainings: Trainings, log: Any, every: int) -> Iterator[tuple[Survived, str]]:
    """Every kill of one case, resumed; with the sum of the hashes at the end."""
    case = trainings.case
    trainings.clear()
    trainings.finish()
    whole = hashes(trainings.folder)
    trainings.clear()
    calls = trainings.run().calls
    write(log, {"case": case.name, "calls": len(calls), "undisturbed": total(whole)})
    everywhere = case is CASES[0]
    first = 0 if everywhere else last_swap(calls)
    points: list[tuple[Fault, ...]] = [(Fault(at),) for at in range(first, len(calls))]
    if everywhere:
        points += [
            (Fault(at, "tear"),)
            for at, call in enumerate(calls)
            if call.split()[0] in disk_calls.WRITES
        ]
    points += list(twice(trainings, calls))
    for faults in points[::every]:
        survived = survive(trainings, whole, *faults)
        yield survived, total(hashes(trainings.folder))
    for event in range(0, events(case), every):
        survived = survive_event(trainings, whole, event)
        yield survived, total(hashes(trainings.folder))


def last_swap(calls: list[str]) -> int:
    """Where the last checkpoint's directory takes the name `out`: its first rename."""
    renames = [i for i, call in enumerate(calls) if call.split()[0] in ("rename", "renameat2")]
    fills = [i for i, call in enumerate(calls) if call.startswith("mkdir .out.new/training")]
    return next(i for i in renames if i > fills[-1])


def twice(trainings: Trainings, calls: list[str]) -> Iterator[tuple[Fault, Fault]]:
    """Kills of a resumption that repairs what a kill left, at each of its calls until the end."""
    swap = last_swap(calls)
    # While filling, after the swap, in the middle of removing: all that a start finds to repair.
    for at in sorted({swap - 3, swap + 1, swap + 2, (swap + len(calls)) // 2}):
        if at >= len(calls):
            continue
        trainings.clear()
        trainings.run(Fault(at))
        again: Ended = trainings.run()
        repairing = next(i for i, call in enumerate(again.calls) if call.endswith(".out.new/probe"))
        for second in range(repairing + 1):
            yield Fault(at), Fault(second)


def events(case: Case) -> int:
    """How many events an undisturbed training reports: start, scores, steps, checkpoints."""
    saves = len({*range(case.save_every, case.steps, case.save_every), case.steps})
    scores = 0
    if case.held_out:
        every = case.more.get("validateEvery")
        scores = 2 + (len(range(every, case.steps, every)) if every else 0)
    return 1 + scores + case.steps + saves


def line(case: Case, survived: Survived, summed: str) -> dict[str, Any]:
    out: dict[str, Any] = {"case": case.name, "killed": survived.call, "sha256": summed[:16]}
    out["same"] = not survived.differing
    out["whole"] = not survived.unsound
    out["lost"] = survived.lost
    if not survived.well:
        out |= {"differing": survived.differing, "unsound": survived.unsound}
    return out


def total(found: dict[str, str]) -> str:
    text = "".join(f"{name} {value}\n" for name, value in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def write(log: Any, record: dict[str, Any]) -> None:
    log.write(json.dumps(record) + "\n")
    log.flush()


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
