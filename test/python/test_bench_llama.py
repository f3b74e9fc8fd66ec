"""bench/llama: ceilings as SEMANTICS.md 8 gives them, and what a trial on a CPU writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "llama"))
from ceilings import ceilings, kv_bytes, prefill_flops
from setting import Setting, Shape, shape_of

BENCH = Path(__file__).resolve().parents[2] / "bench"
LLAMA = Setting(*shape_of("llama-2-7b"))
TINY = Shape(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    tie_word_embeddings=False,
)


def run(*arguments: str, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / "llama" / "run.py"), "--device", "cpu", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


@pytest.mark.parametrize(
    ("tokens", "time", "memory"),
    [(32_768, "1.52", "1.8"), (65_536, "2.13", "2.7"), (131_072, "3.34", "4.1")],
)
def test_the_published_ceilings(tokens: int, time: str, memory: str) -> None:
    most = ceilings(LLAMA, tokens, 2)
    assert (f"{most['time']:.2f}", f"{most['memory']:.1f}") == (time, memory)


def test_the_published_ceilings_of_a_million_tokens() -> None:
    most = ceilings(LLAMA, 2**20, 2)
    assert (f"{most['time']:.0f}", f"{most['memory']:.0f}") == ("20", "11")


def test_the_pool_keeps_a_sixteenth() -> None:
    """By a million tokens more, so that what a segment keeps cancels."""
    more = [
        kv_bytes(LLAMA, 2**21, 2, segmented=s) - kv_bytes(LLAMA, 2**20, 2, segmented=s)
        for s in (True, False)
    ]
    assert more[0] * 16 == more[1]


@pytest.mark.parametrize("sinks", [0, 3])
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 16, 45])
def test_flops_and_bytes_counted_token_by_token(sinks: int, tokens: int) -> None:
    """What a query sees by SEMANTICS.md 2, one head and one token at a time."""
    one = Setting("tiny", TINY, segment=8, carry=5, retrieval=6, sinks=sinks)
    spec, D = one.spec, TINY.head_dim
    keys = rows = 0
    for layer in range(TINY.num_hidden_layers):
        for head in range(TINY.num_attention_heads):
            long = head // 2 in spec.long_heads[layer]
            for t in range(tokens):
                start = t // 8 * 8
                first, pool = range(min(sinks, start)), range(min(sinks, start), start)
                if not long:
                    extra = len(range(max(sinks, start - 5), start))
                else:
                    extra = min(6, len(pool)) if layer in spec.retrieval_layers else 0
                keys += len(first) + extra + t - start + 1
            kept = len(first) + extra + tokens - start
            kept += len(pool) if long and layer in spec.retrieval_layers else 0
            rows += kept if head % 2 == 0 else 0  # two query heads read one KV head
    products = 2 * TINY.num_hidden_layers * (2 * 16 * 32 + 2 * 16 * 16 + 3 * 16 * 24)
    assert prefill_flops(one, tokens, segmented=True) == tokens * products + 4 * D * keys
    assert kv_bytes(one, tokens, 2, segmented=True) == 2 * 2 * D * rows
    seen = TINY.num_hidden_layers * TINY.num_attention_heads * tokens * (tokens + 1) // 2
    assert prefill_flops(one, tokens, segmented=False) == tokens * products + 4 * D * seen


def test_a_trial_and_its_table(tmp_path: Path) -> None:
    shape, out = tmp_path / "tiny.json", tmp_path / "llama.json"
    shape.write_text(json.dumps(vars(TINY)))
    sizes = ["--segment", "16", "--carry", "6", "--retrieval", "8", "--sinks", "2"]
    run(
        *("--shape", str(shape), "--dtype", "float32", "--tokens", "75", "--repeat", "2"),
        *sizes,
        *("--out", str(out)),
    )
    result = json.loads(out.read_text())
    assert str(tmp_path) not in out.read_text()
    assert {"command", "date", "machine", "torch", "commit"} <= result.keys()
    assert result["setting"]["name"] == "tiny"
    modes = ["segmented", "full", "full-chunked"]
    assert [(row["mode"], row["outcome"]) for row in result["rows"]] == [
        (mode, "measured") for mode in modes
    ]
    one = Setting("tiny", TINY, segment=16, carry=6, retrieval=8, sinks=2)
    for row in result["rows"]:
        assert row["finite"] and row["seconds"] > 0 and len(row["all"]) == 2
        assert row["weightsBytes"] == 4 * TINY.parameters
        assert row["peakBytes"] > row["weightsBytes"] + row["kvBytes"]
        if row["mode"] != "segmented":
            assert row["kvBytes"] == kv_bytes(one, 75, 4, segmented=False)
    for ratio, mode in zip(result["ratios"], modes[1:], strict=True):
        assert (ratio["tokens"], ratio["full"]) == (75, mode)
        most = result["ceilings"]["75"]
        assert ratio["ofCeiling"]["time"] == pytest.approx(ratio["time"] / most["time"])
        assert ratio["ofCeiling"]["peak"] == pytest.approx(ratio["peak"] / most["memory"])
    table = section(out)
    assert "| 75 | full attention, in chunks |" in table and "Shape `tiny`" in table
    assert section(tmp_path / "none.json") == ""


def test_a_case_that_does_not_fit_is_recorded(tmp_path: Path) -> None:
    shape, out = tmp_path / "huge.json", tmp_path / "llama.json"
    # More than an address space holds, so that no machine tries.
    shape.write_text(json.dumps({**vars(TINY), "intermediate_size": 2**50}))
    run("--shape", str(shape), "--tokens", "8", "--modes", "full", "--out", str(out))
    (row,) = json.loads(out.read_text())["rows"]
    assert row["outcome"] == "out of memory" and "allocate" in row["reason"]
    assert "out of memory" in section(out)


def test_a_trial_has_no_place_in_the_repository() -> None:
    out = BENCH / "raw" / "llama.json"
    message = run("--shape", "small", "--out", str(out), fails=True)
    assert "outside bench/" in message


def section(path: Path) -> str:
    """In a process of its own: bench/ on this one's path would hide packages (bench/vllm)."""
    code = "import sys, pathlib, section; print(section.llama_section(pathlib.Path(sys.argv[1])))"
    search = os.pathsep.join([str(BENCH / "llama"), str(BENCH)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
