"""Several processes give the gradient of one, and none waits for another that has less to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import make_tiny
import pytest
import torch
from lockstep.training.distributed import Ranks
from lockstep.training.launch import reserved_port
from rank_cases import CASES, Case, outcome
from safetensors.torch import load_file

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case run by two processes at once, as `lockstep train --nproc 2` starts them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    make_tiny.write(folder / "base")
    with reserved_port() as port:
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = [
            subprocess.Popen(
                [sys.executable, HERE / "rank_cases.py", folder],
                env={**os.environ, **common, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
            )
            for rank in range(2)
        ]
        for rank in ranks:
            error = rank.communicate()[1].decode()
            assert rank.returncode == 0, error
    return folder


def test_the_port_of_the_ranks_is_for_them_alone() -> None:
    """Until rank 0 listens on it, the system gives it to nobody."""
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket(socket.AF_INET6) as rank:
            rank.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            rank.bind(("::", port))
            rank.listen()
            with socket.create_connection(("127.0.0.1", port)):
                rank.accept()[0].close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_processes_give_the_gradient_of_one(folder: Path, case: Case) -> None:
    """Whatever their documents' numbers of segments; and so the weights after the step."""
    both = load_file(folder / f"{case.name}.safetensors")
    alone = outcome(folder, replace(case, shard=False), Ranks())
    assert both.keys() == alone.keys()
    assert both["said"][2] == alone["said"][2]
    for name, expected in alone.items():
        scale = float(expected.abs().max())
        assert float((both[name] - expected).abs().max()) <= 1e-10 * max(scale, 1e-12), name


def test_the_cases_differ_in_what_the_ranks_have_to_do(folder: Path) -> None:
    """Otherwise the test above would show less than it says."""
    from rank_cases import drawn

    segments = [len(drawn(n).boundaries) + 1 for n in range(5)]
    assert segments[0] != segments[1] and segments[2] != segments[3]
    gradient = load_file(folder / "ddp-k1-clipped.safetensors")
    norm = sum(float((g**2).sum()) for n, g in gradient.items() if n.startswith("grad.")) ** 0.5
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert float(gradient["said"][1]) > 0.02
