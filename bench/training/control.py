"""The honest control: segmented training against full-attention training of the same tokens.

usage: python bench/training/control.py [--config F] [--seeds 0,1,2] [--minutes X | --steps N]
           [--lengths 2048,4096,8192] [--positions 32768] [--full-positions 16384] [--reuse]

For every seed the same config is trained twice, `--attention segmented` and `--attention full`:
the same sequences in the same order, for the same number of optimizer steps (with --minutes the
segmented training sets the number; the control is given as many). Then, on text that no training
saw:

  full             the base model, stock full attention
  segmentedBefore  the base model, segmented
  segmentedAfter   the segment-trained model, segmented
  fullAfter        the full-trained model, full attention
  fullTrainedSegmented  the full-trained model, segmented: what ordinary training would be worth

and, with --positions, the mean loss by position far beyond the model's trained context.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]
BIN = 1024  # positions averaged in one point of the plot


def train(args: argparse.Namespace, mode: str, seed: int, out: Path, steps: int | None) -> dict:
    """Train through the CLI, as a user would; the result event."""
    if args.reuse and (out / "training" / "state.json").is_file():
        state = json.loads((out / "training" / "state.json").read_text())["progress"]
        clock = json.loads((out / "training" / "clock.json").read_text())
        return {"step": state["step"], "tokens": state["tokens"], "seconds": clock["seconds"]}
    shutil.rmtree(out, ignore_errors=True)
    budget = ["--steps", str(steps)] if steps else ["--minutes", str(args.minutes)]
    command = ["node", str(ROOT / "dist/cli/main.js"), "train", "--config", str(args.config)]
    command += ["--attention", mode, "--seed", str(seed), "--out", str(out), "--json", *budget]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last: dict = {}
        for line in process.stdout:
            last = json.loads(line)
            if last["event"] == "step":
                report = f"{mode} seed {seed} step {last['step']} loss {last['loss']:.3f}"
                print(f"\r{report} {last['tokensPerSecond']:.0f} tok/s ", end="", file=sys.stderr)
        print(file=sys.stderr)
    if process.returncode != 0:
        sys.exit(f"training ended with exit code {process.returncode}")
    return last


def losses(model, ids: list[int], segmented: bool) -> list[float]:
    from lockstep import full

    return (model.nll(ids) if segmented else full.nll(model, ids)).tolist()


def by_length(nll: list[float], lengths: list[int]) -> dict[str, float]:
    """Perplexity of the first n tokens, for every n."""
    return {str(n): math.exp(sum(nll[: n - 1]) / (n - 1)) for n in lengths}


def by_position(nll: list[float]) -> list[list[float]]:
    """[position, mean loss of the BIN positions from there] rows."""
    starts = range(0, len(nll) - BIN + 2, BIN)
    return [[s, sum(nll[s : s + BIN]) / len(nll[s : s + BIN])] for s in starts]


def measure(model, ids: list[int], args: argparse.Namespace, segmented: bool) -> dict:
    far = args.positions if segmented else min(args.positions, args.full_positions)
    most = far if far > max(args.lengths) else 0
    count = max(max(args.lengths), min(most, len(ids)))
    began = time.time()
    nll = losses(model, ids[:count], segmented)
    out = {"perplexity": by_length(nll, args.lengths), "seconds": time.time() - began}
    return out | ({"positions": by_position(nll)} if most > max(args.lengths) else {})


def run(args: argparse.Namespace) -> Iterator[dict]:
    import lockstep
    import torch
    from lockstep.loader import load_module
    from lockstep.operator.model import Model
    from lockstep.tokenizer.file import load_tokenizer

    torch.set_num_threads(args.threads)
    seeds, rows = [int(s) for s in args.seeds.split(",")], []
    runs = ROOT / ".lockstep" / "runs"
    for seed in seeds:
        outs = {mode: runs / f"control-{mode}-{seed}" for mode in ("segmented", "full")}
        segmented = train(args, "segmented", seed, outs["segmented"], args.steps)
        control = train(args, "full", seed, outs["full"], segmented["step"])
        if control["tokens"] != segmented["tokens"]:
            sys.exit(f"the two trainings saw {segmented['tokens']} and {control['tokens']} tokens")
        own = lockstep.load(outs["segmented"])
        tokenizer = load_tokenizer(outs["segmented"])
        text = args.text.read_text(encoding="utf-8")[args.skip :]
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if seed == seeds[0]:
            base = Model(load_module(args.model), own.spec, own.contract)
            before = {
                "full": measure(base, ids, args, False),
                "segmentedBefore": measure(base, ids, args, True),
            }
            del base
        other = Model(load_module(outs["full"]), own.spec, own.contract)
        row = {
            "seed": seed,
            "steps": segmented["step"],
            "tokens": segmented["tokens"],
            "seconds": {"segmented": segmented["seconds"], "full": control["seconds"]},
            "segmentedAfter": measure(own, ids, args, True),
            "fullAfter": measure(other, ids, args, False),
            "fullTrainedSegmented": measure(other, ids, args, True),
        }
        rows.append(row)
        # After every seed: hours of work must not hang on the last one.
        yield {"before": before, "seeds": rows, "summary": summary(rows, args.lengths)}


def summary(rows: list[dict], lengths: list[int]) -> dict:
    """Per length: segmentedAfter / fullAfter of every seed, and their mean."""
    out = {}
    for n in map(str, lengths):
        pairs = [
            (r["segmentedAfter"]["perplexity"][n], r["fullAfter"]["perplexity"][n]) for r in rows
        ]
        ratios = [a / b for a, b in pairs]
        out[n] = {"ratios": ratios, "mean": sum(ratios) / len(ratios)}
    return out


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), dpi=144, layout="constrained")
    curves = [("base model, full attention", result["before"]["full"], "#999999", "--")]
    curves += [("base model, segmented", result["before"]["segmentedBefore"], "#d08770", "--")]
    for row in result["seeds"]:
        seed = f"seed {row['seed']}"
        curves += [(f"full-trained, full ({seed})", row["fullAfter"], "#4c566a", "-")]
        curves += [(f"segment-trained, segmented ({seed})", row["segmentedAfter"], "#1f5fa8", "-")]
    for label, data, color, style in curves:
        points = data.get("positions", [])
        if points:
            xs = [start + BIN / 2 for start, _ in points]
            ys = [math.exp(loss) for _, loss in points]
            axes.plot(xs, ys, style, color=color, label=label, linewidth=1.5)
    axes.set(xlabel="position in the text (tokens)", ylabel=f"perplexity (bins of {BIN} tokens)")
    axes.set_yscale("log")
    axes.set_title("Perplexity by position, text seen in no training")
    axes.axvline(8192, color="#bbbbbb", linewidth=1)
    axes.annotate("trained context", (8192, axes.get_ylim()[1]), rotation=90, va="top", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, default=ROOT / "bench/training/base/lockstep.config.ts"
    )
    parser.add_argument(
        "--model", type=Path, default=ROOT / ".lockstep/models/smollm2-135m-instruct"
    )
    parser.add_argument(
        "--text", type=Path, default=ROOT / ".lockstep/texts/milton/paradiselost.txt"
    )
    parser.add_argument("--skip", type=int, default=60_000, help="characters of the text to skip")
    parser.add_argument("--seeds", default="0,1,2")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=4.0)
    budget.add_argument("--steps", type=int)
    parser.add_argument(
        "--lengths", type=lambda s: [int(n) for n in s.split(",")], default=[2048, 4096, 8192]
    )
    parser.add_argument("--positions", type=int, default=32_768, help="0: no curve by position")
    parser.add_argument(
        "--full-positions", type=int, default=16_384, help="full attention grows with the square"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--reuse", action="store_true", help="keep trainings that are there already"
    )
    parser.add_argument("--name", default="control", help="name of the raw result")
    args = parser.parse_args()
    from machine import RAW, header, write_raw

    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    for key in ("config", "model", "text"):
        settings[key] = str(Path(settings[key]).resolve().relative_to(ROOT))
    head = {**header("npm run bench -- control"), "settings": settings}
    for result in run(args):
        write_raw(args.name, {**head, **result})
    if args.positions > max(args.lengths):
        plot(result, RAW / f"{args.name}-positions.png")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
