"""Versions of vLLM: which are accepted, and code that fits both shapes of what 0.33 changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lockstep.errors import LockstepError
from lockstep.vllm import unsupported, versions
from lockstep.vllm.ending import end_with_error


@pytest.mark.parametrize(
    "found", ["0.32.0", "0.32.1", "0.32.0+cpu", "0.32.3.post1", "0.32.0+cu130"]
)
def test_what_was_tested_is_accepted(found: str) -> None:
    versions.check_version(found)


@pytest.mark.parametrize(
    "found",
    ["0.33.0", "0.31.0", "0.3.2", "1.32.0", "0.32.0rc1", "0.32.1.dev3", "0.320.0", "dev", ""],
)
def test_what_was_not_tested_is_refused(found: str) -> None:
    with pytest.raises(LockstepError) as caught:
        versions.check_version(found)
    assert caught.value.code == "LS_VLLM_VERSION"
    assert "0.32.x" in caught.value.message and f"got {found}" in caught.value.message


def test_vllms_own_version_is_what_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__version__ = "0.33.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    with pytest.raises(LockstepError) as caught:
        versions.check_version()
    assert "got 0.33.0" in caught.value.message


@pytest.mark.parametrize(
    ("given", "asked"), [({}, "V1"), ({"VLLM_USE_V2_MODEL_RUNNER": "1"}, "V2")], ids=["none", "V2"]
)
def test_what_is_installed_is_told_as_json(given: dict[str, str], asked: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != versions.RUNNER_SWITCH}
    printed = subprocess.run(
        [sys.executable, "-m", "lockstep.vllm.versions"],
        env={**env, "PYTHONPATH": os.pathsep.join(sys.path), **given},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(printed.stdout)
    assert told["runner"] == asked and {"name", "version", "plugin"} <= told.keys()


def test_the_runner_that_was_tested_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(versions.RUNNER_SWITCH, raising=False)
    versions.choose_runner()
    assert os.environ[versions.RUNNER_SWITCH] == "0"
    monkeypatch.setenv(versions.RUNNER_SWITCH, "1")
    versions.choose_runner()
    assert os.environ[versions.RUNNER_SWITCH] == "1"


def test_the_other_runner_is_refused() -> None:
    (rule,) = [rule for rule in unsupported.UNSUPPORTED if rule.field == "model_runner"]
    assert rule.wrong(SimpleNamespace(use_v2_model_runner=True)) == "V2"
    assert rule.wrong(SimpleNamespace(use_v2_model_runner=False)) is None
    assert rule.wrong(SimpleNamespace()) is None


def test_a_refusal_names_the_feature_or_the_value() -> None:
    rules = {rule.field: rule for rule in unsupported.UNSUPPORTED}
    feature = "speculative decoding (speculative_config) is not supported with segments"
    assert rules["speculative_config"].message("SpeculativeConfig") == feature
    assert rules["runner"].message("pooling") == "expected runner to be generate, got pooling"


def test_a_request_ends_with_an_error_in_a_set() -> None:
    """vLLM 0.32."""
    waiting = {"other"}
    end_with_error(waiting, iter(["first", "second"]))
    assert waiting == {"other", "first", "second"}


def test_a_request_ends_with_an_error_in_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM 0.33: the error itself travels to the client."""

    def error(code: str, message: str, retryable: bool = False) -> SimpleNamespace:
        return SimpleNamespace(code=code, message=message, retryable=retryable)

    outputs = ModuleType("vllm.outputs")
    outputs.RequestError = error  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.outputs", outputs)
    earlier = object()
    waiting: dict[str, Any] = {"first": earlier}
    end_with_error(waiting, iter(["first", "second"]))
    assert waiting["first"] is earlier
    assert "policy" in waiting["second"].message
    assert waiting["second"].code != "validation_error"  # that would blame the client
