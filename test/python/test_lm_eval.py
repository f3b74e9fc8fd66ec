"""lm-evaluation-harness on a segmented checkpoint: its own command, and scores by definition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lockstep import LockstepError
from lockstep.lm_eval import SegmentedLM, main

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
CONTEXT = "the way in and the way out of it. The first. The second one, and so on. " * 3
ANSWERS = (" and the end", " x", ". The third one is longer than the others, and ends. So it goes.")


@pytest.fixture(scope="module")
def evaluated(made: Path) -> SegmentedLM:
    assert get_model("lockstep") is SegmentedLM
    return SegmentedLM.create_from_arg_string(f"pretrained={made},dtype=float64,batch_size=2")


@pytest.fixture(scope="module")
def reference(made: Path) -> lockstep.Model:
    return lockstep.load(made, dtype="float64")


def encode(text: str) -> list[int]:
    return make_tiny.tokenizer().encode(text).ids


def requests(kind: str, *all_arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, arguments, n) for n, arguments in enumerate(all_arguments)]  # type: ignore[arg-type]


def test_likelihoods_are_the_references(evaluated: SegmentedLM, reference: lockstep.Model) -> None:
    asked = [(CONTEXT.strip(), answer) for answer in ANSWERS] + [("", ANSWERS[2])]
    found = evaluated.loglikelihood(requests("loglikelihood", *asked), disable_tqdm=True)
    for (context, answer), (total, greedy) in zip(asked, found, strict=True):
        front = encode(context) if context else [evaluated.eot_token_id]
        ids = front + encode(context + answer)[len(front) if context else 0 :]
        nll = reference.nll(ids)[len(front) - 1 :]
        assert abs(total + float(nll.sum())) < 1e-9
        best = reference.logits(ids)[len(front) - 1 : -1].argmax(-1).tolist()
        assert greedy == (best == ids[len(front) :])


def test_what_greedy_writes_is_called_greedy(
    evaluated: SegmentedLM, reference: lockstep.Model
) -> None:
    front = encode(CONTEXT.strip())
    ids = list(front)
    for _ in range(12):
        ids.append(int(reference.logits(ids)[-1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 264]
    pairs = [(None, front, one[len(front) :]) for one in (ids, other)]
    found = evaluated._loglikelihood_tokens(pairs, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [True, False]


def test_rolling_reads_the_text_whole(evaluated: SegmentedLM, reference: lockstep.Model) -> None:
    text = CONTEXT * 4
    ids = [evaluated.prefix_token_id, *encode(text)]
    assert len(ids) > 700 and len(reference.plan(ids)) > 10
    (total,) = evaluated.loglikelihood_rolling(
        requests("loglikelihood_rolling", (text,)), disable_tqdm=True
    )
    assert abs(total + float(reference.nll(ids).sum())) < 1e-8


def test_generation_stops_at_its_marks(evaluated: SegmentedLM, reference: lockstep.Model) -> None:
    prompts = [CONTEXT, "the", CONTEXT[:40]]
    plain: dict[str, Any] = {"until": [], "max_gen_toks": 20, "do_sample": False}
    whole = evaluated.generate_until(
        requests("generate_until", *((p, plain) for p in prompts)), disable_tqdm=True
    )
    for prompt, text in zip(prompts, whole, strict=True):
        ids = encode(prompt)
        for _ in range(20):
            ids.append(int(reference.logits(ids)[-1].argmax()))
        new = ids[len(encode(prompt)) :]
        new = new[: new.index(0)] if 0 in new else new
        assert text == evaluated.tokenizer.decode(new, skip_special_tokens=True)
    mark = whole[0][4]
    options = {**plain, "until": [mark]}
    (cut,) = evaluated.generate_until(
        requests("generate_until", (prompts[0], options)), disable_tqdm=True
    )
    assert cut == whole[0].split(mark)[0] and cut != whole[0]


def test_the_command_runs_ruler_offline(made: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "lockstep.lm_eval", "run", "--model", "lockstep",
            "--model_args", f"pretrained={made}", "--batch_size", "2", "--limit", "2",
            "--tasks", "ruler_cwe,ruler_fwe", "--metadata", '{"max_seq_lengths": [3072]}',
            "--gen_kwargs", "max_gen_toks=8", "--log_samples", "--output_path", str(tmp_path),
        ],
        capture_output=True, text=True, check=False,
        env={
            **os.environ, "PYTHONPATH": str(ROOT / "python"), "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    (results,) = tmp_path.rglob("results_*.json")
    document = json.loads(results.read_text())
    assert document["config"]["model"] == "lockstep"
    assert document["n-samples"]["ruler_cwe"]["effective"] == 2
    for task in ("ruler_cwe", "ruler_fwe"):
        (samples,) = tmp_path.rglob(f"samples_{task}_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        assert len(rows) == 2 and all(row["resps"][0][0] for row in rows)


def test_errors_of_the_command_are_sentences(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate() -> None:  # lm_eval's command gets as far as its model
        SegmentedLM(str(made.parent / "model"))

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", evaluate)
    with pytest.raises(SystemExit) as ended:
        main()
    said, fix = str(ended.value).split("\n")
    assert said.startswith("error LS_CONTRACT_MISSING: expected")
    assert fix.startswith("fix: ") and "lockstep attach" in fix  # as the CLI prints it


def test_options_it_does_not_know_are_refused(made: Path) -> None:
    for options in (
        {"parallelize": True},
        {"max_length": 512},
        {"tokenizer": "other"},
        {"batch_size": "auto"},
    ):
        with pytest.raises(LockstepError) as caught:
            SegmentedLM(str(made), **options)
        assert caught.value.code == "LS_LM_EVAL_OPTION"
