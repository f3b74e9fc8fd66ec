"""Adapters on the real vLLM: the base with an adapter against the checkpoint that has it merged in.

The adapters are the trainer's own, of a few steps at a high rate. One engine runs them all.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The engine in this process, before vLLM is imported.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

import checkpoints
import lockstep
import pytest
import torch
from lockstep import retrieval
from lockstep.errors import LockstepError
from lockstep.vllm.verify import _Watch
from lockstep.weights import adapter
from training_run import ROOT
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

BOUND = 1e-4  # |d log p|, float32
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
#: Different heads are long in different layers, so that heads are permuted; layer 0 has a pool.
CONTRACT: dict[str, Any] = {
    "policy": "sentences",
    "least": 8,
    "long": "[[1],[0,2],[0],[1,2]]",
    "layers": (0, 1, 2),
    "recipe": "blocks",
    "sizes": {"block": 4, "window": 20, "distance": 11},
    "carry_heads": "all",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`start`: the base with its contract. `a`, `b`: trained from it, with unlike adapters."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("adapters")
    shutil.copyfile(ROOT / "LICENSE", home / "text.txt")
    model = checkpoints.write_model(home / "base", kv_heads=3)
    checkpoints.attach(home, model, **CONTRACT).rename(home / "start")
    checkpoints.trained(home, "a", rank=4, alpha=8, modules=ALL)
    checkpoints.trained(
        home, "b", rank=2, alpha=16, modules=["q_proj", "k_proj", "o_proj", "down_proj"]
    )
    return home


def engine(folder: Path, **more: Any) -> LLM:
    """An engine that takes adapters, in float32."""
    return LLM(
        str(folder),
        dtype="float32",
        enforce_eager=True,
        num_gpu_blocks_override=400,
        disable_log_stats=True,
        enable_lora=True,
        max_lora_rank=8,
        **more,
    )


@pytest.fixture(scope="module")
def llm(home: Path) -> Iterator[LLM]:
    """Two slots, both taken by the adapters: what a token without one must not get."""
    yield engine(
        home / "start",
        max_model_len=2048,
        max_num_batched_tokens=320,
        max_num_seqs=16,
        enable_prefix_caching=True,
        max_loras=2,
    )
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    gc.collect()
    cleanup_dist_env_and_memory()


WHO = {"a": 1, "b": 2, "start": 0}


def request(home: Path, who: str) -> LoRARequest | None:
    return LoRARequest(who, WHO[who], str(home / who / "adapter")) if WHO[who] else None


def prompts(*lengths: int) -> list[list[int]]:
    generator = random.Random(0)
    return [[generator.randrange(3, 264) for _ in range(n)] for n in lengths]


def served(
    llm: LLM, home: Path, asked: list[tuple[str, list[int]]], answer: int, whole: bool = True
) -> list[tuple[list[int], torch.Tensor, int]]:
    """All ids, log p of the last of them (of all but the first where ``whole``), cached tokens."""
    params = SamplingParams(
        max_tokens=answer,
        temperature=0,
        ignore_eos=True,
        logprobs=0,
        prompt_logprobs=0 if whole else None,
    )
    given: list[Any] = [{"prompt_token_ids": ids} for _, ids in asked]
    adapters: Any = [request(home, who) for who, _ in asked]
    told = []
    answers = llm.generate(given, params, use_tqdm=False, lora_request=adapters)
    for (_, prompt), found in zip(asked, answers, strict=True):
        ids = prompt + list(found.outputs[0].token_ids)
        rows = [*(found.prompt_logprobs or [None])[1:], *found.outputs[0].logprobs]
        pairs = zip(rows, ids[-len(rows) :], strict=True)
        logp_T = torch.tensor([row[token].logprob for row, token in pairs]).double()
        told.append((ids, logp_T, found.num_cached_tokens))
    return told


def scored(reference: lockstep.Model, ids: list[int]) -> torch.Tensor:
    logp_TV = torch.log_softmax(reference.logits(ids).double(), -1)
    return logp_TV[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def off(got_T: torch.Tensor, want_T: torch.Tensor) -> float:
    return float((got_T - want_T[-len(got_T) :]).abs().max())


@pytest.mark.parametrize("who", WHO)
def test_an_adapter_computes_what_the_merged_checkpoint_does(
    llm: LLM, home: Path, who: str
) -> None:
    """Over several segments, prompt and answer, and the same cuts and retrieved rows."""
    reference = lockstep.load(home / who)
    [model] = llm.collective_rpc(lambda worker: worker.get_model())
    cuts = 0
    for prompt in prompts(420, 150):
        watch = _Watch(model, [])
        [(ids, got_T, _)] = served(llm, home, [(who, prompt)], 24)
        model.segments.observer = None
        assert off(got_T, scored(reference, ids)) <= BOUND
        trace = reference.trace(ids[:-1], reference.plan(ids[:-1]))
        wanted = [{"at": one.at, "layers": layers(one.positions)} for one in trace.boundaries]
        assert sorted(watch.cuts) == [one["at"] for one in wanted]
        assert watch.retrieved() == [one for one in wanted if one["layers"]]
        cuts += len(wanted)
    assert cuts > 10


def layers(positions: dict[int, torch.Tensor]) -> list[dict[str, Any]]:
    return [
        {"layer": layer, "positions": retrieval.listed(found)}
        for layer, found in sorted(positions.items())
    ]


def test_adapters_and_base_in_one_batch_compute_what_each_does_alone(llm: LLM, home: Path) -> None:
    asked = [(who, ids) for ids in prompts(300, 40) for who in WHO]
    random.Random(1).shuffle(asked)
    together = served(llm, home, asked, 16)
    for (who, prompt), (ids, got_T, _) in zip(asked, together, strict=True):
        [(alone, want_T, _)] = served(llm, home, [(who, prompt)], 16)
        assert ids == alone and off(got_T, want_T) <= 2e-5
        assert off(got_T, scored(lockstep.load(home / who), ids)) <= BOUND
    # They are three models: what they say of one prompt differs.
    found = {
        who: got_T[:299]
        for (who, prompt), (_, got_T, _) in zip(asked, together, strict=True)
        if len(prompt) == 300
    }
    assert min(off(found["a"], found["b"]), off(found["a"], found["start"])) > 0.1


def test_nothing_is_shared_between_adapters(llm: LLM, home: Path) -> None:
    """One prompt by all three, twice: the second time from the prefix cache, each from its own."""
    [prompt] = prompts(517)
    llm.reset_prefix_cache()
    first = {who: served(llm, home, [(who, prompt)], 16, whole=False)[0] for who in WHO}
    again = {who: served(llm, home, [(who, prompt)], 16, whole=False)[0] for who in WHO}
    for who in WHO:
        assert first[who][2] == 0 and again[who][2] >= 256
        for ids, got_T, _ in (first[who], again[who]):
            assert off(got_T, scored(lockstep.load(home / who), ids)) <= BOUND


def test_an_adapter_that_peft_made_computes_what_peft_does(
    llm: LLM, home: Path, tmp_path: Path
) -> None:
    """`lockstep.save_adapter` sealed it; the reference is peft's own forward pass."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(home / "start", dtype=torch.float32).eval()
    options = LoraConfig(r=4, lora_alpha=8, target_modules=ALL, task_type="CAUSAL_LM")
    model = get_peft_model(base, options)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    [prompt] = prompts(420)
    ids_1T = torch.tensor([prompt])
    model(input_ids=ids_1T, labels=ids_1T).loss.backward()  # it counts as trained
    lockstep.save_adapter(model, tmp_path)
    adapters = LoRARequest("peft", 8, str(tmp_path))
    params = SamplingParams(max_tokens=24, temperature=0, ignore_eos=True, logprobs=0)
    [answer] = llm.generate(
        [{"prompt_token_ids": prompt}], params, use_tqdm=False, lora_request=[adapters]
    )
    rows, told = answer.outputs[0].logprobs, list(answer.outputs[0].token_ids)
    got_T = torch.tensor(
        [row[token].logprob for row, token in zip(rows, told, strict=True)]
    ).double()
    with torch.no_grad():
        logp_TV = torch.log_softmax(
            model.eval()(torch.tensor([prompt + told])).logits[0].double(), -1
        )
    want_T = logp_TV[:-1].gather(1, torch.tensor((prompt + told)[1:])[:, None])[:, 0]
    assert off(got_T, want_T) <= BOUND
    assert off(want_T, scored(lockstep.load(home / "start"), prompt + told)) > 0.1


def wrong_digest(folder: Path) -> None:
    value = json.loads((folder / adapter.SEAL).read_text())
    (folder / adapter.SEAL).write_text(json.dumps({**value, "contract": "0" * 64}))


def wrong_base(folder: Path) -> None:
    value = json.loads((folder / adapter.SEAL).read_text())
    (folder / adapter.SEAL).write_text(json.dumps({**value, "base": "0" * 64}))


def unsealed(folder: Path) -> None:
    (folder / adapter.SEAL).unlink()


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (wrong_digest, "LS_ADAPTER_CONTRACT"),
        (wrong_base, "LS_ADAPTER_BASE"),
        (unsealed, "LS_ADAPTER_FILE"),
    ],
)
def test_an_adapter_of_another_model_does_not_load(
    llm: LLM, home: Path, tmp_path: Path, edit: Any, code: str
) -> None:
    shutil.copytree(home / "a/adapter", tmp_path / "adapter")
    edit(tmp_path / "adapter")
    with pytest.raises(LockstepError) as error:
        llm.llm_engine.add_lora(LoRARequest("other", 9, str(tmp_path / "adapter")))
    assert error.value.code == code
