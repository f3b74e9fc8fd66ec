"""Chat templates rendered in Python: transformers' text, within limits; the turns found."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from lockstep.chat import Limits, Refused, Renderer, TemplateSource, Unfit, conversation
from lockstep.chat.messages import check_turns
from lockstep.errors import LockstepError
from transformers.utils.chat_template_utils import render_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "system", "content": "Be  brief.\r\n"},
    {"role": "user", "content": " 2 + 2?\n"},
    {"role": "assistant", "content": "\n\n4 <b> é", "reasoning_content": "easy"},
    {"role": "user", "content": "And 3 + 3?"},
    {"role": "assistant", "content": "6"},
]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"n": [1.0, True, None]}}}
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MARKED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}A:"
    "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}Q:{{ m.content }}"
    "{% endif %}\n{% endfor %}"
)
TOOLS = (
    "{%- if tools %}{{ tools | tojson(indent=2) }}{% endif -%}\n"
    "{%- for m in messages -%}\n  {%- if loop.first %}{% continue %}{% endif -%}\n"
    "  {{ m | tojson }}{{ none }}{{ '%5.2f' | format(2.5) }}{{ m.content.rsplit(None, 1) }}\n"
    "{%- endfor %}{{ strftime_now('%Y') }}{{ documents }}"
)
# As Qwen3's: only the last answer shows its reasoning.
FORGETS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content and loop.index0 > 2 %}"
    "<{{ m.reasoning_content }}>{% elif m.role == 'assistant' and loop.last %}<>{% endif %}"
    "{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def source(text: str) -> TemplateSource:
    return TemplateSource(text, "chat_template.jinja", SPECIAL)


@pytest.mark.parametrize("template", [CHATML, MARKED, TOOLS, FORGETS])
@pytest.mark.parametrize("header", [False, True])
def test_a_text_is_that_of_transformers(template: str, header: bool) -> None:
    found = conversation(TALK, [TOOL])
    with Renderer(source(template)) as renderer:
        text = renderer.render(found, header=header).text
    (expected,), _ = render_jinja_template(
        [found.messages],
        tools=[TOOL],
        chat_template=template,
        add_generation_prompt=header,
        **SPECIAL,
    )
    assert text == expected


def test_turns_are_found_by_prefixes_and_by_marks() -> None:
    found = conversation(TALK)
    for template in (CHATML, MARKED):
        with Renderer(source(template), workers=2) as renderer:
            (one,) = renderer.render_many([found], [found.turns])
        assert not isinstance(one, Refused) and one.unsound is None
        said = [one.text[start:end].rstrip("\n") for start, end in one.spans]
        assert said == ["\n\n4 <b> é</s>", "6</s>"]
    _, marks = render_jinja_template(
        [found.messages], chat_template=MARKED, return_assistant_tokens_mask=True, **SPECIAL
    )
    assert marks == [one.spans]


def test_prefixes_that_do_not_nest_are_said() -> None:
    found = conversation(TALK)
    with Renderer(source(FORGETS)) as renderer:
        one = renderer.render(found, turns=found.turns)
        assert one.unsound is not None and "message 3 is written otherwise" in one.unsound
        last = renderer.render(found, turns=found.turns[-1:])
    assert last.unsound is None
    assert [last.text[start:end] for start, end in last.spans] == ["<>6</s>"]


@pytest.mark.parametrize(
    "template, words",
    [
        ("{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}", "1 s"),
        ("{{ 'x' * 2000000000 }}", "512 MiB"),
        ("{{ 'x' * 2000 }}", "1000 characters"),
    ],
)
def test_a_template_that_does_not_end_is_ended(template: str, words: str) -> None:
    with Renderer(source(template), Limits(seconds=1, characters=1000)) as renderer:
        for _ in range(2):
            with pytest.raises(LockstepError, match=words) as caught:
                renderer.render(conversation(TALK))
            assert caught.value.code == "LS_TEMPLATE_LIMIT"


def test_a_template_is_held_in_its_sandbox(tmp_path: Path) -> None:
    reach = "{{ cycler.__init__.__globals__.os.system('touch %s') }}" % (tmp_path / "x")
    with Renderer(source(reach)) as renderer, pytest.raises(Refused):
        renderer.render(conversation(TALK))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_does_not_start_leaves_its_place_to_the_next(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = conversation(TALK)
    with Renderer(source(CHATML), workers=workers) as renderer:
        with monkeypatch.context() as patch:

            def full(*_: object, **__: object) -> None:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

            patch.setattr("subprocess.Popen", full)
            for _ in range(workers):
                with pytest.raises(LockstepError, match="temporarily unavailable") as caught:
                    renderer.render(found)
                assert caught.value.code == "LS_TEMPLATE_START"
        # Rendered by a thread: without a free place it would wait for ever.
        rendered: list[str] = []
        thread = threading.Thread(
            target=lambda: rendered.append(renderer.render(found).text), daemon=True
        )
        thread.start()
        thread.join(60)
        assert len(rendered) == 1


def test_what_a_template_refuses_and_what_it_is_not() -> None:
    own = "{{ raise_exception('roles must alternate') }}"
    with Renderer(source(own)) as renderer, pytest.raises(Refused, match="roles must alternate"):
        renderer.render(conversation(TALK))
    with Renderer(source("{% if %}")) as renderer, pytest.raises(LockstepError) as caught:
        renderer.check()
    assert caught.value.code == "LS_TEMPLATE_SYNTAX" and "line 1" in caught.value.message


def test_messages_as_clients_write_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    found = conversation(
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
            {"role": "assistant", "content": "x", "weight": 0, "tool_calls": [], "annotations": []},
        ]
    )
    assert found.messages[0]["content"] == "ab"
    assert found.messages[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert found.messages[3] == {"role": "assistant", "content": "x"}
    assert found.turns == [1, 3] and found.untrained == {3}
    check_turns(found)


@pytest.mark.parametrize(
    "messages, words",
    [
        ("hi", "list of messages"),
        ([], "list of messages"),
        (["hi"], "message 1 to be an object"),
        ([{"content": "x"}], "message 1 to have a role"),
        ([{"role": "user", "content": 1}], "content of message 1"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "'image_url'"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "assistant", "content": "x"}], "no message of a user"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}], "message 2"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [1]}], "function"),
    ],
)
def test_messages_that_are_none(messages: object, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        check_turns(conversation(messages))
