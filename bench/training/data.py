"""Reading gigabytes in bounded memory: tokenizing, opening again, drawing sequences.

usage: python bench/training/data.py [--sizes 0.25,2] [--document 50] [--folder DIR]
           [--tokenizer FILE] [--out bench/training/raw/data.json]

For every size (GB) a JSONL file is generated (documents of 200 to 20,000 characters, one of
``--document`` MB among them), and in a process of its own tokenized, opened a second time, and
2,000 sequences of 2,048 tokens are drawn in batches of 8 over a shuffled epoch. Reported are the
seconds of each, and the process's peak memory: ``anonymous`` is its own, ``resident`` counts pages
of the mapped cache too, which the system takes back when it needs them. Without ``--tokenizer`` a
word tokenizer is used, so that the reading weighs more than the tokenizing.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]
WORDS = 4000
BUNDLE = """
import { bundlePolicy } from './dist/contract/bundle.js';
import { fixed } from './dist/policies/index.js';
process.stdout.write((await bundlePolicy(fixed({ size: 512 }))).source);
"""


def words(rng: random.Random) -> list[str]:
    letters = "etaoinshrdlucmfw"
    return ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(WORDS)]


def generate(path: Path, size: float, document: float) -> int:
    """Write about ``size`` GB of JSON lines; the number of documents."""
    rng = random.Random(5)
    stock = " ".join(rng.choices(words(rng), k=4_000_000))
    left, count = int(size * 1e9), 0
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            length = int(document * 1e6) if count == 100 else int(200 * 100 ** rng.random())
            at = rng.randrange(max(1, len(stock) - length))
            text = (stock[at : at + length] * (1 + length // len(stock)))[:length]
            line = json.dumps({"id": count, "text": f"{count} {text}"}) + "\n"
            file.write(line)
            left, count = left - len(line), count + 1
    return count


def word_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {w: i for i, w in enumerate(dict.fromkeys(["?", *words(random.Random(5))]))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(path))


class Memory:
    """Peaks of this process's memory in MB, looked at every 20 ms."""

    def __init__(self) -> None:
        self.anonymous = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.anonymous = max(self.anonymous, status("RssAnon"))

    def end(self) -> dict[str, float]:
        self._end.set()
        self._thread.join()
        return {"anonymous": round(self.anonymous, 1), "resident": round(status("VmHWM"), 1)}


def status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1e3
    raise KeyError(name)


def measure(folder: Path, policy: str) -> dict:
    """One size, in this process."""
    from lockstep.tokenizer.file import load_tokenizer
    from lockstep.training import data

    tokenizer = load_tokenizer(folder)
    before, memory, events = status("RssAnon"), Memory(), []
    reading = data.ReadOptions(folder / "cache", emit=lambda event, **rest: events.append(rest))
    load = ("text.jsonl",), folder, tokenizer, tokenizer.get_vocab_size(), reading
    began, cpu = time.monotonic(), time.process_time()
    corpus = data.load(*load)
    made, made_cpu = time.monotonic() - began, time.process_time() - cpu
    began = time.monotonic()
    corpus = data.load(*load)
    again = time.monotonic() - began
    document = {
        "policy": {"name": "fixed"},
        "tables": {},
        "segment": {"min": 1, "max": 512, "align": 1},
        "tokenizer": {"size": 1 << 20},
    }
    contract = SimpleNamespace(document=document, policy_source=policy)
    sequences = data.Sequences(corpus.documents, 2048, 0, None, contract, 1)
    cursor = data.Cursor()
    began = time.monotonic()
    sequences.take(cursor, 8)
    first = time.monotonic() - began
    began, drawn = time.monotonic(), 0
    for _ in range(250):
        drawn += sum(len(one.ids) for one in sequences.take(cursor, 8))
    rest = time.monotonic() - began
    epoch = sequences.count(0)
    sequences.close()
    return {
        "bytes": (folder / "text.jsonl").stat().st_size,
        "documents": len(corpus.documents),
        "longest": int(max(corpus.documents.lengths(0, len(corpus.documents)))),
        "tokens": corpus.tokens,
        "cacheBytes": sum(p.stat().st_size for p in (folder / "cache").rglob("*") if p.is_file()),
        "progressEvents": len(events),
        "seconds": {
            "tokenize": round(made, 1),
            "tokenizeCpu": round(made_cpu, 1),
            "openAgain": round(again, 3),
            "firstEightSequences": round(first, 3),
            "next2000Sequences": round(rest, 2),
        },
        "sequencesInEpoch": epoch,
        "drawnTokens": drawn,
        "memory": {"before": round(before, 1), **memory.end()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="0.25,2")
    parser.add_argument("--document", type=float, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "data.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, (args.child / "policy.js").read_text())))
        return
    from machine import header

    policy = subprocess.run(
        ["node", "--input-type=module", "-e", BUNDLE], cwd=ROOT, capture_output=True, check=True
    ).stdout
    rows = []
    for size in map(float, args.sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            (folder / "policy.js").write_bytes(policy)
            generate(folder / "text.jsonl", size, args.document)
            if args.tokenizer:
                (folder / "tokenizer.json").write_bytes(args.tokenizer.read_bytes())
            else:
                word_tokenizer(folder / "tokenizer.json")
            time.sleep(3)  # a file that changed just now is read again at every start
            command = [sys.executable, __file__, "--child", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"gigabytes": size, **json.loads(done.stdout)})
            print(json.dumps(rows[-1]), file=sys.stderr)
    result = {
        "suite": "training data",
        "tokenizer": args.tokenizer.name if args.tokenizer else f"words ({WORDS})",
        **header("python bench/training/data.py " + " ".join(sys.argv[1:])),
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
