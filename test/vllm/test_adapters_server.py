"""vLLM's own server with adapters: what it reports of them, its metrics, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import checkpoints
import pytest
import torch
from lockstep.weights import adapter
from servers import ROOT, Server, serving


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("adapters")
    shutil.copyfile(ROOT / "LICENSE", home / "text.txt")
    model = checkpoints.write_model(home / "base", kv_heads=3)
    options = {"policy": "sentences", "least": 8, "long": "[[1],[0,2],[0],[1,2]]"}
    checkpoints.attach(home, model, probe=True, **options).rename(home / "start")  # type: ignore[arg-type]
    checkpoints.trained(home, "law", probe=True, rank=4, alpha=8, modules=["q_proj", "o_proj"])
    return home


def options(home: Path, folder: Path) -> tuple[str, ...]:
    return ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"law={folder}")


def metric(server: Server, name: str) -> list[str]:
    return [line for line in str(server.call("/metrics")[1]).splitlines() if line.startswith(name)]


def test_an_adapter_is_probed_reported_and_counted_as_vllms_own(home: Path) -> None:
    folder = home / "law/adapter"
    with serving(home / "start", *options(home, folder)) as server:
        server.ready()
        told = server.call("/lockstep")[1]
        assert told["probe"]["status"] == "passed"
        [own] = told["adapters"]
        assert (own["name"], own["sha256"]) == ("law", adapter.read(folder).sha256)
        # The numbers of the checkpoint that has it merged in, and not those of the base.
        assert own["probe"]["status"] == "passed" and own["probe"]["off"] < 1e-4
        assert own["probe"]["positions"] > 20
        ask = {"prompt": [5] * 40, "max_tokens": 16, "temperature": 0, "ignore_eos": True}
        law, base = (
            server.call("/v1/completions", {**ask, "model": name, "logprobs": 0})[1]
            for name in ("law", str(home / "start"))
        )
        assert law["model"] == "law"
        assert law["choices"][0]["logprobs"] != base["choices"][0]["logprobs"]
        # Ours travels in vLLM's map of adapters; vLLM's label names none but adapters.
        [lines] = [metric(server, "vllm:lora_requests_info{")]
        names = {x for line in lines for x in re.findall(r'_lora_adapters="([^"]*)"', line)}
        assert "law" in names and names <= {"law", ""}
        assert metric(server, "lockstep_contract_info{")


def test_an_adapter_of_another_base_ends_the_start(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "law/adapter", tmp_path / "adapter")
    seal = tmp_path / "adapter" / adapter.SEAL
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "base": "0" * 64}))
    with serving(home / "start", *options(home, tmp_path / "adapter")) as server:
        assert server.wait() != 0
        assert "LS_ADAPTER_BASE" in server.output


def test_a_probe_that_another_adapter_would_pass_ends_the_start(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "law/adapter", tmp_path / "adapter")
    probe = json.loads((home / "start/probe.json").read_text())
    own = adapter.read(tmp_path / "adapter").sha256
    (tmp_path / "adapter/probe.json").write_text(json.dumps({**probe, "weights": own}))
    with serving(home / "start", *options(home, tmp_path / "adapter")) as server:
        assert server.wait() != 0
        assert "LS_PROBE_MISMATCH" in server.output and "adapter law" in server.output
