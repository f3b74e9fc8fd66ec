"""The canonical `model` of a config.json: one in Node and Python, and what transformers means."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from lockstep.contract.shape import shape_of
from lockstep.contract.shape_fields import read_fields
from lockstep.errors import LockstepError
from lockstep.export.meta import rotation_of

ROOT = Path(__file__).parents[2]
BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 61,
}
#: What each field may be written as, ABSENT included: right, wrong and strange.
ABSENT = object()
ROPES: list[Any] = [
    ABSENT,
    None,
    {},
    {"rope_theta": 5e5},
    {"rope_type": "default", "rope_theta": 10000.0},
    {"type": "linear", "factor": 4},
    {"rope_type": "linear", "factor": 2.5, "rope_theta": 100},
    {"rope_type": "linear"},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 32,
        "low_freq_factor": 1,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 500000.0,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "beta_fast": 16, "beta_slow": 2},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3, "mscale": 2.0},
    {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 24},
    {"rope_type": "yarn", "factor": 4.0, "beta_fast": None, "truncate": False},
    {"rope_type": "yarn"},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": None},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"full_attention": {"rope_type": "default", "rope_theta": 1.0}},
]
CHOICES: dict[str, list[Any]] = {
    "rope_parameters": ROPES,
    "rope_scaling": [ABSENT] * 8 + ROPES,
    "rope_theta": [ABSENT, ABSENT, 10000, 1e6, 500000.0],
    "original_max_position_embeddings": [ABSENT] * 6 + [48],
    "max_position_embeddings": [ABSENT, 128, 4096],
    "num_key_value_heads": [ABSENT, 1, 2, 4, None, 3, 2.0, "2", True],
    "head_dim": [ABSENT, ABSENT, 8, 16, 6, 7, 8.0, None],
    "rms_norm_eps": [ABSENT, 1e-5, 1e-06, 1e-300, "1e-6"],
    "hidden_act": [ABSENT, ABSENT, "silu", "swish", "gelu", "nonsense", None],
    "attention_bias": [ABSENT, ABSENT, False, True, 0],
    "mlp_bias": [ABSENT, ABSENT, False, True],
    "tie_word_embeddings": [ABSENT, False, True, 1],
    "sliding_window": [ABSENT, None, None, 16],
    "use_sliding_window": [ABSENT, ABSENT, False, True],
    "max_window_layers": [ABSENT, 0, 2, 4, 28],
    "layer_types": [ABSENT] * 6 + [["full_attention"] * 4, ["full_attention"], None],
    "logit_scale": [ABSENT] * 8 + [1.0, 2.0],
    "num_hidden_layers": [4] * 10 + [4.0, "4", 0, -1],
}


def configs(count: int) -> list[dict[str, Any]]:
    """Random ones: a few fields of each are out of the ordinary."""
    draw, out = random.Random(11), []
    for at in range(count):
        family = ("llama", "qwen2", "qwen3", "mistral")[at % 4]
        config: dict[str, Any] = {"model_type": family, **BASE, "num_key_value_heads": 2}
        if family == "mistral":
            config["sliding_window"] = None
        for field in draw.sample(list(CHOICES), draw.randint(0, 5)):
            value = draw.choice(CHOICES[field])
            if value is ABSENT:
                config.pop(field, None)
            else:
                config[field] = value
        out.append(config)
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("shape")
    made = []
    for at, config in enumerate(configs(600)):
        folder = root / str(at)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        made.append(folder)
    return made


def judged(folder: Path) -> tuple[str, Any]:
    """('ok', shape) or (code, field)."""
    try:
        return "ok", shape_of(read_fields(folder))
    except LockstepError as error:
        return error.code, error.field


def test_node_computes_the_same(folders: list[Path]) -> None:
    script = (
        f"import {{ readModel }} from {json.dumps(str(ROOT / 'dist/contract/index.js'))};"
        f"import {{ rotationOf }} from {json.dumps(str(ROOT / 'dist/contract/rotation.js'))};"
        "const out = [];"
        "for (const dir of JSON.parse(process.argv[1])) {"
        "  out.push(await readModel(dir).then("
        "    (m) => ['ok', m.shape, rotationOf(m.shape)], (e) => [e.code, e.field ?? null]));"
        "}"
        "process.stdout.write(JSON.stringify(out));"
    )
    node = shutil.which("node") or "node"
    printed = subprocess.run(
        [node, "--input-type=module", "-e", script, json.dumps([str(f) for f in folders])],
        capture_output=True,
        check=True,
    ).stdout
    here = [judged(folder) for folder in folders]
    assert sum(code == "ok" for code, _ in here) > 150
    for folder, mine, theirs in zip(folders, here, json.loads(printed), strict=True):
        said = json.loads((folder / "config.json").read_text("utf-8"))
        assert json.loads(json.dumps(mine)) == theirs[:2], said
        if mine[0] != "ok":
            continue
        # Down to the way that numbers are written.
        assert json.dumps(mine[1], sort_keys=True) == json.dumps(theirs[1], sort_keys=True)
        inverse, factor = rotation_of(mine[1])
        assert theirs[2]["inverseFrequencies"] == pytest.approx(inverse, rel=1e-12, abs=0)
        assert theirs[2]["factor"] == pytest.approx(factor, rel=1e-12)


def test_transformers_means_the_same(folders: list[Path]) -> None:
    """What is accepted has in transformers these sizes, and this rotation."""
    from transformers import AutoConfig

    accepted = 0
    for folder in folders:
        code, shape = judged(folder)
        if code != "ok":
            continue
        accepted += 1
        said = json.loads((folder / "config.json").read_text("utf-8"))
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        group = config.num_key_value_heads or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        bias = {"qwen2": "qkv", "mistral": "none"}.get(config.model_type)
        found = {
            "layers": config.num_hidden_layers,
            "kvHeads": group,
            "headDim": head,
            "vocabulary": config.vocab_size,
            "normEpsilon": config.rms_norm_eps,
            "attentionBias": bias or ("qkvo" if config.attention_bias else "none"),
            "mlpBias": getattr(config, "mlp_bias", False),
            "tied": config.tie_word_embeddings,
        }
        assert {name: shape[name] for name in found} == found, said
        assert "sliding_attention" not in (getattr(config, "layer_types", None) or [])
        inv_freq, factor = rotation(config)
        expected, scale = rotation_of(shape)
        assert inv_freq.tolist() == pytest.approx(expected, rel=2e-6, abs=0), said
        assert factor == pytest.approx(scale, rel=1e-12), said
    assert accepted > 150


def rotation(config: Any) -> tuple[torch.Tensor, float]:
    import importlib

    family = config.model_type
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    rotary = getattr(module, f"{family.capitalize()}RotaryEmbedding")(config)
    return rotary.inv_freq, rotary.attention_scaling
