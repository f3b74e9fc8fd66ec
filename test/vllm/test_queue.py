"""More requests than the KV space holds: they wait, and every one gets a right answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import checkpoints
import lockstep
import torch
from servers import Server, serving
from tiny import text

PROMPT, ANSWER, REQUESTS = 420, 120, 12
BLOCKS = 64  # one request of the 1024 tokens that the server allows takes 53 of them
BOUND = 2e-4  # |d log p|, float32
TIE = 1e-3  # the best two may be this near for either to be chosen


def ask(server: Server, prompt: list[int]) -> dict:
    body = {
        "prompt": prompt,
        "max_tokens": ANSWER,
        "ignore_eos": True,
        "temperature": 0,
        "logprobs": 1,
        "return_token_ids": True,
    }
    status, answer = server.call("/v1/completions", body)
    assert status == 200, answer
    return answer["choices"][0]


def metrics(server: Server) -> dict[str, float]:
    """Sums over labels, by name."""
    found: dict[str, float] = {}
    for line in server.call("/metrics")[1].splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith(("vllm:", "lockstep_")):
            name = name.partition("{")[0]
            found[name] = found.get(name, 0) + float(value)
    return found


def test_what_does_not_fit_waits_and_is_served(tmp_path: Path) -> None:
    model = checkpoints.write_model(tmp_path / "model")
    checkpoint = checkpoints.attach(tmp_path, model, policy="sums", least=4, most=40)
    prompts = [text(PROMPT, seed, vocabulary=264) for seed in range(REQUESTS)]
    most = 0.0
    with serving(
        checkpoint,
        *("--block-size", "16", "--num-gpu-blocks-override", str(BLOCKS)),
        *("--max-num-batched-tokens", "96"),
    ) as server:
        server.ready()
        with ThreadPoolExecutor(REQUESTS) as threads:
            asked = [threads.submit(ask, server, prompt) for prompt in prompts]
            while not all(one.done() for one in asked):
                most = max(most, metrics(server)["vllm:num_requests_waiting"])
            answers = [one.result() for one in asked]
        left = metrics(server)
        while left["vllm:num_requests_running"]:  # told once more when the last step is over
            time.sleep(0.1)
            left = metrics(server)
    assert most >= REQUESTS / 2
    assert left["vllm:num_requests_waiting"] == left["vllm:kv_cache_usage_perc"] == 0
    assert left["lockstep_kv_blocks"] == left["lockstep_kv_bytes"] == 0
    assert left["lockstep_requests_total"] == REQUESTS
    reference = lockstep.load(checkpoint)
    for prompt, answer in zip(prompts, answers, strict=True):
        chosen = answer["token_ids"]
        assert (len(chosen), answer["finish_reason"]) == (ANSWER, "length")
        logits_TV = reference.logits(prompt + chosen)[PROMPT - 1 : -1]
        logp_TV = torch.log_softmax(logits_TV.double(), -1)
        want_T = logp_TV.gather(1, torch.tensor(chosen)[:, None])[:, 0]
        got_T = torch.tensor(answer["logprobs"]["token_logprobs"]).double()
        assert float((got_T - want_T).abs().max()) <= BOUND
        assert float((logp_TV.max(-1).values - want_T).max()) <= TIE
