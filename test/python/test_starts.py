"""What a process leaves out at its start, and takes from an earlier process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lockstep.contract import compiled, quickjs_module
from wasmtime import Config, Engine, Module, WasmtimeError


def test_scipy_and_scikit_learn_are_imported_when_their_functions_are_called(
    real_python: str,
) -> None:
    program = """
import sys
import lockstep.loader
from transformers import AutoModelForCausalLM
from transformers.generation import candidate_generator
from transformers.loss import loss_for_object_detection
early = {name for name in ("scipy.optimize", "sklearn", "pandas") if name in sys.modules}
assert not early, early
rows, columns = loss_for_object_detection.linear_sum_assignment([[4, 1], [2, 8]])
assert (list(rows), list(columns)) == ([0, 1], [1, 0])
false, true, thresholds = candidate_generator.roc_curve([0, 1], [0.2, 0.9])
assert (list(false), list(true)) == ([0, 0, 1], [0, 1, 1])
import scipy.optimize, sklearn.metrics
assert scipy.optimize.brentq(lambda x: x - 1, 0, 3) == 1
assert sklearn.metrics.__file__ and sklearn.metrics.accuracy_score([1], [1]) == 1
"""
    pytest.importorskip("sklearn")
    subprocess.run([real_python, "-c", program], check=True)


@pytest.fixture
def engine() -> Engine:
    config = Config()
    config.epoch_interruption = True
    return Engine(config)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(sys, "pycache_prefix", str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return folder


def files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.machine-code"))


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def count(engine: Engine, data: bytes) -> Module:
        seen.append(len(data))
        return Module(engine, data)

    count.deserialize = Module.deserialize  # type: ignore[attr-defined]
    monkeypatch.setattr(compiled, "Module", count)
    return seen


def test_the_policy_engine_is_compiled_once(
    engine: Engine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = compilations(monkeypatch)
    data = quickjs_module.ENGINE_FILE.read_bytes()
    first = compiled.module(engine, data)
    second = compiled.module(engine, data)
    assert seen == [len(data)]
    assert [item.name for item in second.exports] == [item.name for item in first.exports]
    [file] = files(cache)
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
def test_a_damaged_file_is_written_again(
    engine: Engine, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    data = quickjs_module.ENGINE_FILE.read_bytes()
    compiled.module(engine, data)
    [file] = files(cache)
    whole = file.read_bytes()
    if damage == "foreign":
        # Whole, and of an engine with other settings.
        other = bytes(Module(Engine(Config()), data).serialize())
        compiled._write(file, other)
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes({"cut": whole[:middle], "changed": changed, "empty": b""}[damage])
    seen = compilations(monkeypatch)
    compiled.module(engine, data)
    assert seen == [len(data)]
    assert file.read_bytes() == whole


def test_without_a_place_to_write_it_is_compiled_each_time(
    engine: Engine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder would be")
    seen = compilations(monkeypatch)
    data = quickjs_module.ENGINE_FILE.read_bytes()
    for _ in range(2):
        assert compiled.module(engine, data).exports
    assert seen == [len(data)] * 2


def test_without_bytecode_nothing_is_written(
    engine: Engine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert compiled.module(engine, quickjs_module.ENGINE_FILE.read_bytes()).exports
    assert files(cache) == []


def test_what_is_no_webassembly_is_refused(engine: Engine, cache: Path) -> None:
    with pytest.raises(WasmtimeError):
        compiled.module(engine, b"no module")
    assert files(cache) == []
