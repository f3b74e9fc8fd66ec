"""Which choice of long heads is best after the same alignment: gates, mass, first, even.

usage: python bench/training/heads.py [--budget small|gpu] [--seeds 0,1,2] [--counts 18x6,9x9]
           [--methods even,gates,mass,first] [--cells NAME,…] [--list] [--table] [--minutes X]
           [--threads 2] [--small]

A cell is a method, a count of long heads and a seed. Its choice is made by `lockstep profile` on
Shakespeare, imported by a config, trained by `lockstep train` with as many steps on as many tokens
as every other cell (the seed decides what the methods look at and what is trained on, alike in
all), and measured segmented before and after on two texts that no cell trained on: `selection`, by
which the recommended method is chosen, and `report`, on which it is reported.

A cell's result is one JSON file in bench/training/raw/heads-<budget>/; what is there already is
not run again, and an interrupted profile or training goes on where it was. --table prints what is
there: mean and 95% interval over the seeds, and the paired ratio to `even`. --small is a trial of
the script with a few tokens; its results stay out of the repository and mean nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cells import BUDGETS, Budget  # noqa: E402
from experiments import CLI, TEXTS, WORK, CellFailed, call  # noqa: E402
from stats import interval  # noqa: E402

METHODS = ("even", "gates", "mass", "first")
MODEL = ROOT / ".lockstep/models/smollm2-135m-instruct"


@dataclass(frozen=True)
class Plan:
    """A training budget, what a profile may look at, and how far is measured."""

    name: str
    budget: Budget
    sequences: int
    steps: int
    lengths: tuple[int, ...]
    raw: Path

    @classmethod
    def of(cls, name: str) -> Plan:
        budget = BUDGETS[name]
        lengths = tuple(budget.lengths[1:3])
        many = {"small": (12, 24), "gpu": (64, 400)}[name]
        return cls(name, budget, *many, lengths, HERE / "raw" / f"heads-{name}")

    @classmethod
    def trial(cls) -> Plan:
        budget = Budget("trial", 48, 128, 1, 2, 3e-4, "cpu")
        return cls("trial", budget, 2, 2, (128, 256), WORK / "heads-trial" / "raw")


@dataclass(frozen=True)
class Cell:
    plan: Plan
    method: str
    heads: int
    layers: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.heads}x{self.layers}-seed{self.seed}"

    @property
    def path(self) -> Path:
        return self.plan.raw / f"{self.name}.json"

    @property
    def folder(self) -> Path:
        return WORK / f"heads-{self.plan.name}"

    def settings(self) -> dict:
        """Everything that decides the cell's numbers."""
        b = self.plan.budget
        effort = {"gates": self.plan.steps, "mass": self.plan.sequences}.get(self.method, 0)
        return {
            "method": self.method,
            "heads": self.heads,
            "layers": self.layers,
            "seed": self.seed,
            "profiled": effort,
            "contract": {
                "segment": {"min": b.segment * 3 // 4, "max": b.segment},
                "carry": {"size": b.segment // 4, "sinks": 4},
            },
            "retrieval": {"size": b.segment},
            "training": {
                "steps": b.steps,
                "sequence": b.sequence,
                "batch": 1,
                "accumulate": b.accumulate,
                "truncation": 1,
                "learningRate": b.learning_rate,
                "warmup": 0.1,
                "trainable": "attention",
            },
            "lengths": list(self.plan.lengths),
            "texts": {name: [text["file"], text["skip"]] for name, text in TEXTS.items()},
        }

    def identity(self) -> str:
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def done(self) -> bool:
        return self.path.is_file() and json.loads(self.path.read_text())["identity"] == (
            self.identity()
        )

    def config(self, heads: str | None) -> str:
        """The config; ``heads`` the file to import, None for the profile's own."""
        s = self.settings()
        up = os.path.relpath(ROOT, self.folder)
        held = [text["held"] for text in TEXTS.values() if text["held"]]
        data = [f"{up}/.lockstep/texts/shakespeare/*.txt"]
        data += held  # as deep in the tree as experiments.py's configs
        retrieval = s["retrieval"]["size"]
        chosen = [
            f"  retrieval: {{ size: {retrieval}, ...chosen.retrieval }},",
            "  heads: chosen.heads,",
        ]
        lines = [
            "import { defineConfig, sentences } from 'lockstep';",
            f"import chosen from './{heads}' with {{ type: 'json' }};" if heads else "",
            "export default defineConfig({",
            f"  model: '{up}/.lockstep/models/smollm2-135m-instruct',",
            f"  out: '{self.name}',",
            "  policy: sentences(),",
            *(f"  {key}: {json.dumps(value)}," for key, value in s["contract"].items()),
            *(chosen if heads else []),
            f"  data: {json.dumps({'train': data})},",
            f"  training: {json.dumps(s['training'])},",
            "});",
        ]
        return "\n".join(lines) + "\n"


def profile(cell: Cell, threads: int) -> dict:
    """Choose the heads through the CLI; the file's content and the seconds it took.

    A finished choice of an interrupted cell is kept for its next run.
    """
    kept = cell.folder / f"{cell.name}.profile.json"
    if kept.is_file() and (held := json.loads(kept.read_text()))["cell"] == cell.identity():
        return held["profile"]
    base = cell.folder / f"{cell.name}.base.config.ts"
    base.write_text(cell.config(None))
    out = cell.folder / f"{cell.name}.heads.json"
    command = [*CLI, "profile", str(MODEL), "--method", cell.method, "--out", str(out)]
    command += ["--heads", str(cell.heads), "--layers", str(cell.layers)]
    if cell.method in ("gates", "mass"):
        b = cell.plan.budget
        command += ["--config", str(base), "--seed", str(cell.seed), "--length", str(b.sequence)]
        command += ["--device", b.device, "--threads", str(threads)]
    if cell.method == "gates":
        command += ["--steps", str(cell.plan.steps)]
        command += ["--retrieval", str(cell.settings()["retrieval"]["size"])]
    if cell.method == "mass":
        command += ["--sequences", str(cell.plan.sequences)]
    began = time.time()
    call(command, threads)
    chosen = {"seconds": time.time() - began, **json.loads(out.read_text())}
    kept.write_text(json.dumps({"cell": cell.identity(), "profile": chosen}))
    return chosen


def train(cell: Cell, config: Path, out: Path, threads: int) -> dict:
    command = [*CLI, "train", "--config", str(config), "--out", str(out), "--json"]
    command += ["--seed", str(cell.seed), "--device", cell.plan.budget.device]
    if (out / "training/state.json").is_file():
        command += ["--resume"]
    result = json.loads(call(command, threads)[-1])
    return {name: result[name] for name in ("step", "tokens", "seconds", "loss")}


def measure(cell: Cell, weights: Path, contract: Path, threads: int) -> dict:
    """Perplexity by text and length, segmented under the cell's contract."""
    texts = {
        name: {
            "file": str(ROOT / text["file"]),
            "skip": text["skip"],
            "lengths": {"segmented": cell.plan.lengths},
        }
        for name, text in TEXTS.items()
    }
    job = {"weights": str(weights), "contract": str(contract), "texts": texts}
    job |= {"threads": threads, "device": cell.plan.budget.device}
    lines = call([sys.executable, str(HERE / "measure.py"), json.dumps(job)], threads)
    rows = json.loads(lines[-1])["texts"]
    return {name: row["segmented"]["perplexity"] for name, row in rows.items()}


def run(cell: Cell, threads: int) -> dict:
    from machine import header

    cell.folder.mkdir(parents=True, exist_ok=True)
    out, attached = cell.folder / cell.name, cell.folder / f"{cell.name}-contract"
    chosen = profile(cell, threads)
    config = cell.folder / f"{cell.name}.config.ts"
    config.write_text(cell.config(f"{cell.name}.heads.json"))
    attach = ["attach", str(MODEL), "--config", str(config), "--out", str(attached)]
    call([*CLI, *attach, "--force", "--json"], threads)
    before = measure(cell, attached, attached, threads)
    trained = train(cell, config, out, threads)
    result = {
        **header(f"python bench/training/heads.py --budget {cell.plan.name}"),
        "cell": cell.name,
        "identity": cell.identity(),
        "settings": cell.settings(),
        "threads": threads,
        "profile": chosen,
        "before": before,
        "training": trained,
        "after": measure(cell, out, attached, threads),
    }
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    part = cell.path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(cell.path)
    (cell.folder / f"{cell.name}.profile.json").unlink()
    for folder in (attached, out):
        shutil.rmtree(folder)
    return result


def table(cells: list[Cell]) -> str:
    """Markdown: one row a count and method, columns by text and length."""
    held = {cell.name: json.loads(cell.path.read_text()) for cell in cells if cell.done()}
    columns = [(text, str(n)) for text in TEXTS for n in cells[0].plan.lengths]
    head = ["long heads", "method", "seeds", *(f"{text}, {n}" for text, n in columns)]
    head += [f"untrained ({columns[-1][0]}, {columns[-1][1]})", "ratio to even", "layers (seed 0)"]
    rows = [head, ["---"] * len(head)]
    counts = list(dict.fromkeys((cell.heads, cell.layers) for cell in cells))
    for count in counts:
        for method in dict.fromkeys(cell.method for cell in cells):
            same = [c for c in cells if (c.heads, c.layers) == count and c.method == method]
            found = [held[c.name] for c in same if c.name in held]
            if not found:
                continue
            text, n = columns[-1]
            pairs = [
                (r["after"][text][n], held[even]["after"][text][n])
                for r in found
                if (even := r["cell"].replace(method, "even", 1)) in held
            ]
            layers = found[0]["profile"]["retrieval"]["layers"]
            rows.append(
                [
                    f"{count[0]} in {count[1]} layers",
                    method,
                    str(len(found)),
                    *(interval([r["after"][t][m] for r in found], 3) for t, m in columns),
                    interval([r["before"][text][n] for r in found], 3),
                    interval([a / b for a, b in pairs], 3) if pairs else "",
                    " ".join(map(str, layers)),
                ]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def parse() -> argparse.Namespace:
    names = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", choices=list(BUDGETS), default="small")
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default=[0, 1, 2])
    parser.add_argument(
        "--counts",
        type=lambda s: [tuple(map(int, one.split("x"))) for one in s.split(",")],
        default=[(18, 6), (9, 9)],
        help="HEADSxLAYERS",
    )
    parser.add_argument("--methods", type=names, default=list(METHODS))
    parser.add_argument("--cells", type=names, help="these alone, e.g. even-18x6-seed0")
    parser.add_argument("--list", action="store_true", help="say which cells there are, and end")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    parser.add_argument("--minutes", type=float, help="begin no cell after this time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a trial with a few tokens")
    return parser.parse_args()


def main() -> None:
    args = parse()
    plan = Plan.trial() if args.small else Plan.of(args.budget)
    seeds = args.seeds[:1] if args.small else args.seeds
    rows = [
        Cell(plan, method, *count, seed)
        for seed in seeds
        for count in args.counts
        for method in args.methods
    ]
    if args.cells:
        rows = [cell for cell in rows if cell.name in args.cells]
    if not rows or not set(args.methods) <= set(METHODS):
        sys.exit(f"expected cells of --list and methods of {', '.join(METHODS)}")
    if args.list:
        for cell in rows:
            print(f"{'done' if cell.done() else 'open'}  {cell.name}")
        return
    if not args.table:
        work(rows, args)
    print(table(rows))


def work(rows: list[Cell], args: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    began, failed = time.time(), 0
    todo = [cell for cell in rows if not cell.done()]
    print(f"{len(rows) - len(todo)} of {len(rows)} cells are there already", flush=True)
    for at, cell in enumerate(todo):
        if args.minutes and time.time() - began > 60 * args.minutes:
            print(f"time is up; {len(todo) - at} cells are open")
            break
        start = time.time()
        try:
            result = run(cell, args.threads)
        except CellFailed as error:
            print(f"{cell.name} failed: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        after = {
            name: " ".join(f"{p:.2f}" for p in r.values()) for name, r in result["after"].items()
        }
        took = time.time() - start
        print(f"{cell.name}: {after}  ({took:.0f} s; {len(todo) - at - 1} open)", flush=True)
    if failed:
        sys.exit(f"{failed} cells failed")


if __name__ == "__main__":
    main()
