"""vLLM's own server with the plugin: who it says it is, the segments it tells, what it measures."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import pytest
import vllm
from lockstep.contract.planner import Planner
from lockstep.contract.reader import read
from safetensors.torch import load_file, save_file
from servers import Server, serving
from tiny import text

IDS = 264


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    model = checkpoints.write_model(folder / "model")
    return checkpoints.attach(folder, model, policy="sums", least=4, most=40, probe=True)


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    with serving(checkpoint, "--block-size", "16", "--max-num-batched-tokens", "96") as server:
        server.ready()
        yield server


def complete(server: Server, prompt: list[int], **options: object) -> tuple[int, dict]:
    body = {"prompt": prompt, "max_tokens": 24, "ignore_eos": True, "temperature": 0, **options}
    return server.call("/v1/completions", body)


def test_every_engine_process_says_what_it_loaded(server: Server, checkpoint: Path) -> None:
    status, told = server.call("/lockstep")
    assert status == 200
    assert told["digest"] == read(checkpoint).digest
    (engine,) = told["engines"]
    assert engine["digest"] == told["digest"]
    assert engine["architecture"] == "SegmentedLlamaForCausalLM"
    assert engine["pid"] != server.process.pid


def test_the_probe_was_passed_before_it_opened(server: Server) -> None:
    told = server.call("/lockstep")[1]
    assert (told["vllm"], told["runner"]) == (vllm.__version__, "V1")
    probe = told["probe"]
    assert probe["status"] == "passed" and probe["boundaries"] >= 5 and probe["positions"] >= 24
    assert probe["kind"] == "largest" and probe["off"] < 1e-4 < probe["bound"]
    before, _, after = server.output.partition("Lockstep's probe: passed")
    assert "Application startup complete" not in before
    assert "Application startup complete" in after
    metrics = server.call("/metrics")[1]
    assert f'lockstep_engine_info{{engine="0",runner="V1",version="{vllm.__version__}"}}' in metrics
    (took,) = re.findall(r'lockstep_probe_milliseconds{engine="0"} (\S+)', metrics)
    assert float(took) == probe["milliseconds"] > 0


def test_segments_of_a_request(server: Server, checkpoint: Path) -> None:
    prompt = text(300, 1, vocabulary=IDS)
    status, answer = complete(
        server, prompt, vllm_xargs={"lockstep_segments": 1}, return_token_ids=True
    )
    assert status == 200
    told = answer["kv_transfer_params"]["lockstep"]
    whole = prompt + answer["choices"][0]["token_ids"]
    assert len(whole) == 324
    cuts = Planner(read(checkpoint)).plan(whole)
    assert [end for _, end in told["segments"]] == cuts
    status, answer = complete(server, prompt)
    assert status == 200 and answer["kv_transfer_params"] is None


def test_a_token_outside_the_vocabulary(server: Server) -> None:
    status, answer = complete(server, [5, IDS])
    assert status == 400, answer
    assert complete(server, [5, 6])[0] == 200


def test_what_is_measured(server: Server, checkpoint: Path) -> None:
    complete(server, text(200, 2, vocabulary=IDS))
    lines = server.call("/metrics")[1].splitlines()
    values = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("lockstep_")
    }
    digest = read(checkpoint).digest
    assert values[f'lockstep_contract_info{{digest="{digest}",engine="0"}}'] == 1
    assert values['lockstep_segments_total{engine="0"}'] > 5
    assert values['lockstep_requests_total{engine="0"}'] >= 1
    assert values['lockstep_chunks_total{end="boundary",engine="0"}'] > 1
    assert 'lockstep_kv_blocks{engine="0",group="pool"}' in values


def test_other_weights_than_the_probes(checkpoint: Path, tmp_path: Path) -> None:
    """One row of one projection: the server ends before it opens, unless told to leave it out."""
    edited = Path(shutil.copytree(checkpoint, tmp_path / "edited"))
    file = edited / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.self_attn.v_proj.weight"][3] *= 1.5
    save_file(weights, file, metadata={"format": "pt"})
    # Their checksum would be refused first.
    unchecked = {"LOCKSTEP_NO_WEIGHTS_CHECK": "1"}
    with serving(edited, **unchecked) as server:
        assert server.wait() != 0
        assert "[LS_PROBE_MISMATCH]" in server.output
        assert "Application startup complete" not in server.output
    with serving(edited, LOCKSTEP_PROBE="0", **unchecked) as server:
        server.ready()
        assert server.call("/lockstep")[1]["probe"]["status"] == "skipped"


def test_every_rank_is_asked(tmp_path: Path) -> None:
    model = checkpoints.write_model(tmp_path / "model", kv_heads=4)
    checkpoint = checkpoints.attach(tmp_path, model, long="[1, 2]", probe=True)
    cores = "|".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    with serving(
        checkpoint, "--tensor-parallel-size", "2", VLLM_CPU_OMP_THREADS_BIND=cores
    ) as server:
        server.ready()
        status, told = server.call("/lockstep")
    assert status == 200
    assert told["probe"]["status"] == "passed" and told["probe"]["off"] < 1e-4
    assert [engine["rank"] for engine in told["engines"]] == [0, 1]
    assert {engine["digest"] for engine in told["engines"]} == {read(checkpoint).digest}
