"""Fail closed: what must not be served is refused before a token is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from lockstep.contract.reader import digest_of
from lockstep.errors import LockstepError
from lockstep.vllm import BASES, checks, register, unsupported
from servers import serving
from vllm import LLM
from vllm.config import CUDAGraphMode
from vllm.engine.arg_utils import EngineArgs

register()

Document = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    model = checkpoints.write_model(folder / "model")
    return checkpoints.attach(folder, model)


@pytest.fixture
def checkpoint(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "checkpoint"))


def edit(file: Path, change: Callable[[Document], Any], *, seal: bool = False) -> None:
    document = json.loads(file.read_text("utf-8"))
    change(document)
    if seal:
        document["digest"] = digest_of(document)
    file.write_text(json.dumps(document), "utf-8")


def refused(model: Path, **options: Any) -> LockstepError:
    """Start an engine; it must not come up."""
    with pytest.raises(LockstepError) as caught:
        LLM(model=str(model), enforce_eager=True, **{"dtype": "float32", **options})
    assert caught.value.fix
    return caught.value


# The checkpoint


def test_an_edited_contract(checkpoint: Path) -> None:
    edit(checkpoint / "lockstep.json", lambda d: d["carry"].update(size=17))
    error = refused(checkpoint)
    assert (error.code, error.field) == ("LS_CONTRACT_DIGEST", "digest")


def test_another_policy(checkpoint: Path) -> None:
    with (checkpoint / "policy.js").open("a") as file:
        file.write(" ")
    assert refused(checkpoint).code == "LS_CONTRACT_POLICY"


def test_another_tokenizer(checkpoint: Path) -> None:
    with (checkpoint / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert refused(checkpoint).code == "LS_CONTRACT_TOKENIZER"


def test_a_tokenizer_from_elsewhere(checkpoint: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    with (other / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert refused(checkpoint, tokenizer=str(other)).code == "LS_CONTRACT_TOKENIZER"


def test_golden_vectors_that_come_out_otherwise(checkpoint: Path) -> None:
    def change(document: Document) -> None:
        golden = next(one for one in document["golden"] if one["boundaries"])
        golden["boundaries"][0] -= 1

    edit(checkpoint / "lockstep.json", change, seal=True)
    assert refused(checkpoint).code == "LS_CONTRACT_GOLDEN"


def test_no_contract(checkpoint: Path) -> None:
    (checkpoint / "lockstep.json").unlink()
    assert refused(checkpoint).code == "LS_CONTRACT_MISSING"


@pytest.mark.parametrize("base", BASES)
def test_a_stock_architecture_beside_a_contract(checkpoint: Path, base: str) -> None:
    edit(checkpoint / "config.json", lambda c: c.update(architectures=[base]))
    error = refused(checkpoint)
    assert (error.code, error.field) == ("LS_CONTRACT_ARCHITECTURE", "architectures")


def test_a_type_that_others_would_run(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda c: c.update(model_type="llama"))
    error = refused(checkpoint)
    assert (error.code, error.field) == ("LS_CONTRACT_ARCHITECTURE", "model_type")


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0] * 4,
            "original_max_position_embeddings": 512,
        },
    ],
    ids=["dynamic", "longrope"],
)
def test_scaling_that_depends_on_the_length(checkpoint: Path, parameters: Document) -> None:
    edit(checkpoint / "config.json", lambda c: c.update(rope_parameters=parameters))
    error = refused(checkpoint)
    assert (error.code, error.field) == ("LS_MODEL_UNSUPPORTED", "rope_parameters.rope_type")


def test_a_window_of_the_models_own(tmp_path: Path) -> None:
    model = checkpoints.write_model(tmp_path / "model", "mistral")
    checkpoint = checkpoints.attach(tmp_path, model)
    edit(checkpoint / "config.json", lambda c: c.update(sliding_window=64))
    error = refused(checkpoint)
    assert (error.code, error.field) == ("LS_MODEL_UNSUPPORTED", "sliding_window")


def test_a_contract_that_changes_while_the_engine_starts(checkpoint: Path) -> None:
    config = EngineArgs(model=str(checkpoint), dtype="float32").create_engine_config()
    assert checks.contract_of(config).digest == config.additional_config["lockstep"]
    edit(checkpoint / "lockstep.json", lambda d: d["carry"].update(size=17), seal=True)
    with pytest.raises(LockstepError) as caught:
        checks.contract_of(config)
    assert caught.value.code == "LS_CONTRACT_DIGEST"


# Features of vLLM

OPTIONS: dict[str, Document] = {
    "speculative_config": {
        "speculative_config": {
            "method": "ngram",
            "num_speculative_tokens": 2,
            "prompt_lookup_max": 2,
        }
    },
    "kv_transfer_config": {
        "kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}
    },
    "kv_offloading_size": {"kv_offloading_size": 1.0},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "decode_context_parallel_size": {
        "tensor_parallel_size": 2,
        "decode_context_parallel_size": 2,
    },
    "prefill_context_parallel_size": {"prefill_context_parallel_size": 2},
    "enable_dbo": {"enable_dbo": True},
    "async_scheduling": {"async_scheduling": True},
    "scheduler_cls": {"scheduler_cls": "vllm.v1.core.sched.async_scheduler.AsyncScheduler"},
    "disable_hybrid_kv_cache_manager": {"disable_hybrid_kv_cache_manager": True},
    "fully_sharded_loras": {"enable_lora": True, "fully_sharded_loras": True},
    "lora_dtype": {"enable_lora": True, "lora_dtype": "bfloat16"},
    "quantization": {"quantization": "fp8"},
    "kv_cache_dtype": {"kv_cache_dtype": "fp8"},
    "dtype": {"dtype": "float16"},
    "load_format": {"load_format": "dummy"},
    "enable_prompt_embeds": {"enable_prompt_embeds": True},
    "runner": {"runner": "pooling"},
    "hf_overrides": {"hf_overrides": {"rms_norm_eps": 1e-6}},
    "kv_sharing_fast_prefill": {"kv_sharing_fast_prefill": True},
}


@pytest.mark.parametrize("field", OPTIONS)
def test_a_feature_that_was_not_shown_equal(made: Path, field: str) -> None:
    error = refused(made, **OPTIONS[field])
    assert (error.code, error.field) == ("LS_VLLM_FEATURE", field)


def test_more_than_one_engine(made: Path) -> None:
    """vLLM's own LLM class takes none of this; its server would."""
    with pytest.raises(LockstepError) as caught:
        EngineArgs(model=str(made), dtype="float32", data_parallel_size=2).create_engine_config()
    assert caught.value.field == "data_parallel_size"


def test_the_model_runner_that_was_not_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    error = refused(made)
    assert (error.code, error.field) == ("LS_VLLM_FEATURE", "model_runner")


def test_adapters_that_come_and_go(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unsupported.RUNTIME_ADAPTERS, "1")
    error = refused(made, enable_lora=True)
    assert (error.code, error.field) == ("LS_VLLM_FEATURE", "lora_modules")


def test_another_version_of_vllm(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm.__version__", "0.33.0")
    error = refused(made)
    assert error.code == "LS_VLLM_VERSION" and "got 0.33.0" in error.message


# Weights


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine in this process, so that its own error comes out of it."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


@pytest.mark.usefixtures("here")
def test_a_bias_that_upstream_drops(tmp_path: Path) -> None:
    """vLLM's Qwen3 has no `o_proj.bias`, and its loader passes over one without a word."""
    model = checkpoints.write_model(tmp_path / "model", "qwen3", bias=True)
    error = refused(checkpoints.attach(tmp_path, model))
    assert (error.code, error.field) == (
        "LS_VLLM_WEIGHTS",
        "model.layers.0.self_attn.o_proj.bias",
    )


def test_heads_that_ranks_cannot_share(made: Path) -> None:
    """One long and one local head: two ranks would get one kind each."""
    error = refused(made, tensor_parallel_size=2)
    assert (error.code, error.field) == ("LS_VLLM_HEADS", "tensor_parallel_size")


def test_what_a_cpu_cannot_be_configured_for(made: Path) -> None:
    """Full CUDA graphs, and an encoder-cache connector, set on a real configuration."""
    config = EngineArgs(model=str(made), dtype="float32").create_engine_config()
    checks.check(config)
    config.compilation_config.cudagraph_mode = CUDAGraphMode.FULL
    with pytest.raises(LockstepError) as caught:
        checks.check(config)
    assert caught.value.field == "cudagraph_mode"
    config.compilation_config.cudagraph_mode = CUDAGraphMode.PIECEWISE
    checks.check(config)
    config.ec_transfer_config = object()
    with pytest.raises(LockstepError) as caught:
        checks.check(config)
    assert caught.value.field == "ec_transfer_config"


def test_every_rule_has_its_test() -> None:
    tested = {*OPTIONS, "data_parallel_size", "cudagraph_mode", "ec_transfer_config"}
    tested |= {"model_runner", "lora_modules"}
    assert {rule.field for rule in unsupported.UNSUPPORTED} == tested


def test_prefix_caching_needs_a_pool(made: Path, tmp_path: Path) -> None:
    def cached(checkpoint: Path) -> bool:
        config = EngineArgs(
            model=str(checkpoint), dtype="float32", enable_prefix_caching=True
        ).create_engine_config()
        return bool(config.cache_config.enable_prefix_caching)

    model = checkpoints.write_model(tmp_path / "model")
    assert cached(made)
    assert not cached(checkpoints.attach(tmp_path, model, retrieval=0, layers=()))


# As a user meets it


def test_a_server_exits_and_says_why(checkpoint: Path) -> None:
    edit(checkpoint / "lockstep.json", lambda d: d["carry"].update(size=17))
    with serving(checkpoint) as server:
        assert server.wait() != 0
        assert "[LS_CONTRACT_DIGEST]" in server.output
        assert "Application startup complete" not in server.output


def test_without_the_plugin_vllm_knows_no_such_model(made: Path) -> None:
    with serving(made, VLLM_PLUGINS="") as server:
        assert server.wait() != 0
        assert "lockstep_llama" in server.output
        assert "does not recognize" in server.output
        assert "Application startup complete" not in server.output


def test_a_plugin_that_fails_to_load(made: Path, tmp_path: Path) -> None:
    """Upstream logs that and carries on; no model of ours must come of it."""
    (tmp_path / "lockstep").mkdir()
    (tmp_path / "lockstep" / "__init__.py").write_text("raise ImportError('broken')\n")
    with serving(made, PYTHONPATH=str(tmp_path)) as server:
        assert server.wait() != 0
        assert "Failed to load plugin lockstep" in server.output
        assert "Application startup complete" not in server.output
