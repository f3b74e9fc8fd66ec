"""Serving renders chat templates as transformers does: the same text and ids, or both refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CONVERSATIONS, TEMPLATES
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".lockstep" / "models" / "smollm2-135m-instruct"
SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Node's answers by template and conversation."""
    folder = tmp_path_factory.mktemp("templates")
    bodies = {name: json.dumps(sent(one)) for name, one in CONVERSATIONS.items()}
    task = {"dir": str(MODEL), "templates": TEMPLATES, "conversations": bodies, "special": SPECIAL}
    (folder / "task.json").write_text(json.dumps(task), "utf-8")
    node = shutil.which("node") or "node"
    script = Path(__file__).with_name("render_templates.mjs")
    command = [node, str(script), str(folder / "task.json"), str(folder / "answers.json")]
    subprocess.run(command, check=True, timeout=300)
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text("utf-8"))
    return answers


def sent(conversation: dict[str, Any]) -> dict[str, Any]:
    """As clients send it: a call's arguments are JSON text."""
    copy: dict[str, Any] = json.loads(json.dumps(conversation))
    for message in copy["messages"]:
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return copy


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_of_every_feature(name: str, served: dict[str, Any], tokenizer: Any) -> None:
    for conversation, given in CONVERSATIONS.items():
        answer = served[f"{name} {conversation}"]
        expected = reference(TEMPLATES[name], given)
        if isinstance(expected, Exception):
            assert answer["kind"] == "refused", conversation
            words = str(expected)
            assert words[:200] in answer["reason"], conversation
        else:
            assert answer.get("text") == expected, (conversation, answer)
            ids = tokenizer(expected, add_special_tokens=False).input_ids
            assert answer["ids"] == ids, conversation


def reference(source: str, given: dict[str, Any]) -> str | Exception:
    try:
        texts, _ = render_jinja_template(
            conversations=[json.loads(json.dumps(given["messages"]))],
            tools=given.get("tools"),
            documents=None,
            chat_template=source,
            add_generation_prompt=True,
            **SPECIAL,
            **given.get("chat_template_kwargs", {}),
        )
        text: str = texts[0]
        return text
    except Exception as error:
        return error


def test_most_of_them_render(served: dict[str, Any]) -> None:
    kinds = [one["kind"] for one in served.values()]
    assert len(TEMPLATES) >= 60
    assert kinds.count("text") >= 60 * len(CONVERSATIONS)
    assert set(kinds) == {"text", "refused"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("broken-syntax", 2),
        ("broken-tag", 1),
        ("broken-filter", 1),
        ("broken-at-run", 2),
        ("sandboxed", 1),
    ],
)
def test_what_fails_names_its_line(name: str, line: int, served: dict[str, Any]) -> None:
    assert served[f"{name} plain"]["line"] == line


def test_a_template_of_its_own_refusal_names_none(served: dict[str, Any]) -> None:
    answer = served["alternating system"]
    assert answer == {"kind": "refused", "reason": "roles must alternate: system", "line": None}
