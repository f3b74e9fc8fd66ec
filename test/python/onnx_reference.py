"""What test/onnx-checkpoints.ts needs of Python: tiny checkpoints, and the trainer's numbers.

Reads ``{"command", "cases"}`` from stdin, one a line, and answers each with a line ``{"answer"}``.
``make`` takes ``[{"dir", "architecture", ...options of tiny.tiny}]`` and writes Hugging Face
directories. ``export`` takes export jobs. ``run`` takes ``[{"dir", "out", "ids", "boundaries"}]``,
writes log-probabilities [T, V] as raw float32 to ``out`` and answers what each boundary retrieved.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import make_tiny
from tiny import tiny
from transformers import PreTrainedTokenizerFast


def make(cases: list[dict]) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = make_tiny.tokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    for case in cases:
        options = {k: v for k, v in case.items() if k not in ("dir", "architecture")}
        model = tiny(
            case["architecture"],
            vocabulary=tokenizer.get_vocab_size(),
            dtype=torch.float32,
            **options,
        )
        model.save_pretrained(case["dir"])
        fast.save_pretrained(case["dir"])


def run(cases: list[dict]) -> list:
    import lockstep
    from lockstep import retrieval

    out = []
    for case in cases:
        model = lockstep.load(case["dir"])
        logits_TV = model.logits(case["ids"], case["boundaries"], form="steps")
        logp_TV = logits_TV.double().log_softmax(-1)
        Path(case["out"]).write_bytes(logp_TV.float().numpy().tobytes())
        trace = model.trace(case["ids"], case["boundaries"])
        out.append(
            [
                [
                    b.at,
                    [
                        {"layer": layer, "positions": retrieval.listed(p)}
                        for layer, p in sorted(b.positions.items())
                    ],
                ]
                for b in trace.boundaries
            ]
        )
    return out


def export(cases: list[dict]) -> None:
    from lockstep.export import job as export

    for case in cases:
        export.run(case)


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        done = {"make": make, "export": export, "run": run}[request["command"]](request["cases"])
        print(json.dumps({"answer": done}), file=answers, flush=True)
