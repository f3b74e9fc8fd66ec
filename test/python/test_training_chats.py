"""Conversations as training data: their ids, which of them count, what is cut, skipped, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from lockstep.chat import TemplateSource
from lockstep.chat.encode import Rule
from lockstep.errors import LockstepError
from lockstep.training import data

TOKENIZER = make_tiny.tokenizer()
SIZE = TOKENIZER.get_vocab_size()
END, STOP = TOKENIZER.token_to_id("<|endoftext|>"), TOKENIZER.token_to_id("<|im_end|>")
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}"
    "{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Writes no end of its own, shows tools, refuses other roles, and forgets reasoning that is past.
PLAIN = (
    "{% if tools %}{{ tools | tojson }}{{ '\n' }}{% endif %}{% for m in messages %}"
    "{% if m.role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('no role ' + m.role) }}{% endif %}"
    "{{ m.role }}: {% if m.reasoning and loop.last %}({{ m.reasoning }}) {% endif %}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.n }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def rule(template: str | None = make_tiny.CHAT, **options: Any) -> Rule:
    source = None if template is None else TemplateSource(template, "chat_template.jinja", {})
    given = {"ends": frozenset([END, STOP]), "end": END} | options
    return Rule(source, **given)


def talk(*said: str, system: str | None = None) -> list[dict[str, Any]]:
    """Messages of a user and an assistant in turn."""
    first = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]


def load(root: Path, rows: list[Any], given: Rule, name: str = "a.jsonl", **more: Any) -> Any:
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(root, name, given, **more)


def read(root: Path, name: str, given: Rule | None, **more: Any) -> data.Corpus:
    reading = data.ReadOptions(root / "cache", chat=given, **more)
    return data.load((name,), root, TOKENIZER, SIZE, reading)


def refused(root: Path, rows: list[Any], given: Rule, **more: Any) -> str:
    with pytest.raises(LockstepError) as caught:
        load(root, rows, given, **more)
    assert caught.value.code == "LS_TRAIN_BROKEN"
    return caught.value.message


def shown(corpus: data.Corpus) -> list[tuple[str, str]]:
    """Of each document its text, and the text of what counts."""
    out = []
    for one in corpus.documents:
        assert one.mask_N is not None
        ids_N = np.asarray(one.ids_N)
        parts = [ids_N.tolist(), ids_N[np.asarray(one.mask_N, dtype=bool)].tolist()]
        whole, counted = (TOKENIZER.decode(ids, skip_special_tokens=False) for ids in parts)
        out.append((whole, counted))
    return out


def called(arguments: Any) -> dict[str, Any]:
    """A message of the assistant that calls a tool."""
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


CHAT = talk("Hi", "the end", "Go on.", "an end.", system="Be brief.")
HALF = "half a surrogate pair at character"
REASONED = [{**m, "reasoning": "so"} if m["role"] == "assistant" else m for m in CHAT]


def test_answers_count_and_a_conversation_ends_with_its_end(tmp_path: Path) -> None:
    rows = [{"messages": CHAT, "id": 1}, {"messages": CHAT[:3]}]
    whole = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nthe end<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n"
        "<|im_start|>assistant\nan end.<|im_end|>"
    )
    first = whole[: whole.index("\n<|im_start|>user\nGo")]
    for template in (make_tiny.CHAT, MARKED):
        corpus = load(tmp_path, rows, rule(template))
        assert shown(corpus) == [
            (whole, "the end<|im_end|>an end.<|im_end|>"),
            (first, "the end<|im_end|>"),
        ]
        assert corpus.entries[0].format == "messages" and not corpus.skipped
    assert [t for _, t in shown(load(tmp_path, rows, rule(MARKED, loss="last")))] == [
        "an end.<|im_end|>",
        "the end<|im_end|>",
    ]
    corpus = load(tmp_path, rows, rule(loss="all"))
    assert [a == b for a, b in shown(corpus)] == [True, True] and shown(corpus)[0][0] == whole
    # Without an end token nothing is added, and nothing taken away.
    kept = load(tmp_path, rows, rule(end=None))
    assert shown(kept)[0] == (whole + "\n", "the end<|im_end|>an end.<|im_end|>")


def test_an_end_is_added_where_the_template_writes_none(tmp_path: Path) -> None:
    corpus = load(tmp_path, [{"messages": CHAT}], rule(PLAIN))
    [(whole, counted)] = shown(corpus)
    assert whole.endswith("assistant: an end.\n<|endoftext|>")
    assert counted == "the end\nan end.\n<|endoftext|>"


def test_tools_calls_and_weights(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"n": 5}'}}
    messages = [
        {"role": "user", "content": "2?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
        {"role": "assistant", "content": "no", "weight": 0, "refusal": None},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "yes", "annotations": []},
    ]
    [(whole, counted)] = shown(
        load(tmp_path, [{"messages": messages, "tools": [{"name": "f"}]}], rule(PLAIN))
    )
    assert whole.startswith('[{"name": "f"}]\nuser: 2?\nassistant: 5\ntool: 7\nassistant: no\n')
    assert counted == "5\nyes\n<|endoftext|>"
    marked = load(tmp_path, [{"messages": [messages[0], *messages[3:]]}], rule(MARKED))
    assert [counted for _, counted in shown(marked)] == ["yes<|im_end|>"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_table_invents_no_arguments_and_no_schemas(kind: str, tmp_path: Path) -> None:
    """Columns of structs have every field that any row has; JSON text keeps what it says."""
    template = PLAIN.replace(".arguments.n }}", ".arguments | tojson }}")
    city = {"type": "object", "city": {"type": "string"}}
    zone = {"type": "object", "zone": {"default": 0}}
    rows = [
        {
            "messages": [*CHAT, called(given)],
            "tools": [{"name": "f", "parameters": schema, "strict": None}],
        }
        for given, schema in (
            ({"in": {"a": 1, "all": [{"b": 1}, {"c": 2}]}, "city": "Rome"}, city),
            ({"in": {"d": 1}, "zone": "CET"}, zone),
        )
    ]
    said = [{"messages": [*CHAT, called('{"n": null}')], "tools": None}]
    arrow_rows = arrow.Table.from_pylist(rows)
    if kind == "parquet":
        parquet.write_table(arrow_rows, tmp_path / "b.parquet")
        parquet.write_table(arrow.Table.from_pylist(said), tmp_path / "c.parquet")
    else:
        for name, table in (("b", arrow_rows), ("c", arrow.Table.from_pylist(said))):
            with arrow.ipc.new_stream(str(tmp_path / f"{name}.arrow"), table.schema) as writer:
                writer.write_table(table)
    for row in rows:
        row["tools"][0].pop("strict")
    expected = shown(load(tmp_path, rows, rule(template)))
    assert "null" not in str(expected) and '"city": "Rome"}' in expected[0][1]
    assert shown(read(tmp_path, f"b.{kind}", rule(template))) == expected
    [(_, counted)] = shown(read(tmp_path, f"c.{kind}", rule(template)))
    assert '{"n": null}' in counted


def test_a_table_of_what_json_has_not(tmp_path: Path) -> None:
    when = datetime(2026, 11, 30)
    rows = [{"messages": [{**m, "at": when} for m in CHAT]}, {"messages": CHAT}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    with pytest.raises(LockstepError, match="line 1: expected what JSON has in message 1, got dat"):
        read(tmp_path, "b.parquet", rule())
    assert len(read(tmp_path, "b.parquet", rule(), skip_broken=True).documents) == 1


def test_tools_that_a_template_does_not_show(tmp_path: Path) -> None:
    message = refused(tmp_path, [{"messages": CHAT, "tools": [{"name": "f"}]}], rule())
    assert "line 1: tools are given, and the chat template shows none" in message


def test_prompts_and_completions(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Name a the", "completion": "ft."},
        {"prompt": "Say it", "completion": ": it<|im_end|>"},
        {"prompt": "", "completion": "start"},
        {"prompt": CHAT[:4], "completion": CHAT[4:]},
    ]
    corpus = load(tmp_path, rows, rule())
    assert corpus.entries[0].format == "prompt-completion"
    found = shown(corpus)
    assert found[:3] == [
        ("Name a theft.<|endoftext|>", "ft.<|endoftext|>"),
        ("Say it: it<|im_end|>", ": it<|im_end|>"),
        ("start<|endoftext|>", "start<|endoftext|>"),
    ]
    assert found[3][1] == "an end.<|im_end|>"
    # "e" + "ft" may join others of the vocabulary: the prompt's ids stay those that serving gives.
    prompt = TOKENIZER.encode("Name a t", add_special_tokens=False).ids
    corpus = load(tmp_path, [{"prompt": "Name a t", "completion": "he"}], rule())
    assert corpus.documents[0].ids_N.tolist()[: len(prompt)] == prompt
    assert shown(corpus) == [("Name a the<|endoftext|>", "he<|endoftext|>")]


def test_a_token_between_header_and_answer_does_not_count(tmp_path: Path) -> None:
    """The tokenizer joins two line ends: the answer's first is a part of the header's token."""
    corpus = load(tmp_path, [{"messages": talk("Hi", "\nthe end")}], rule())
    assert shown(corpus)[0][1] == "the end<|im_end|>"
    assert corpus.skipped[0][1].startswith("1 answers whose first token is not trained")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no message of a user"),
        ({"messages": talk("Hi", "")}, "message 2, of the assistant, is empty"),
        ({"messages": [*CHAT, {"role": "critic", "content": "x"}]}, "the chat template refuses it"),
        ({"messages": []}, "expected a list of messages"),
        ({"messages": "Hi"}, "expected a list of messages, got text 'Hi'"),
        ({"text": "Hi there"}, "no field 'messages', but 'text'"),
        ({"messages": REASONED}, "what the assistant said cannot"),
        ({"messages": CHAT, "tools": "f"}, "expected tools to be a list"),
        ([1], "expected an object, got list"),
        ({"messages": [{**CHAT[0], "role": "\ud800"}, *CHAT]}, f"{HALF} 1 of message 1"),
        ({"messages": [{**CHAT[1], "name": "\ud800"}, *CHAT]}, f"{HALF} 1 of message 1"),
        ({"messages": [*CHAT, {**CHAT[2], "reasoning": "a\ud800"}]}, f"{HALF} 2 of message 6"),
        ({"messages": [*CHAT, called({"n": ["\ud800"]})]}, f"{HALF} 1 of message 6"),
        ({"messages": [*CHAT, called({"\ud800": 1})]}, f"{HALF} 1 of message 6"),
        ({"messages": [*CHAT, called('{"n": "\\ud800"}')]}, f"{HALF} 1 of message 6"),
        ({"messages": CHAT, "tools": [{"name": "\ud800"}]}, f"{HALF} 1 of tools"),
        ({"messages": "[" * 100_000}, "expected a list of messages, got text '[[["),
        ({"messages": CHAT, "tools": "[" * 100_000}, "expected tools to be a list"),
        ({"messages": [*CHAT, called("[" * 100_000)]}, "lists and objects in message 6 are nested"),
        ({"messages": [*CHAT, called("[" * 500 + "]" * 500)]}, "lists and objects in message 6"),
    ],
)
def test_bad_rows_are_named_by_their_line(row: Any, words: str, tmp_path: Path) -> None:
    ordinary = {"messages": CHAT}
    given = rule(PLAIN, loss="all" if "critic" in str(row) else "assistant")
    message = refused(tmp_path, [ordinary, row, ordinary], given)
    assert f"1 broken line (line 2: {words}" in message and "a.jsonl" in message
    corpus = load(tmp_path, [ordinary, row, ordinary], given, skip_broken=True)
    assert len(corpus.documents) == 2 and "1 broken" in corpus.skipped[0][1]


def test_prefixes_that_do_not_nest_leave_the_last_answer(tmp_path: Path) -> None:
    rows = [{"messages": REASONED}]
    message = refused(tmp_path, rows, rule(PLAIN))
    assert "message 3 is written otherwise once others follow it" in message
    assert "data.loss 'last'" in message
    [(whole, counted)] = shown(load(tmp_path, rows, rule(PLAIN, loss="last")))
    assert counted == "(so) an end.\n<|endoftext|>" and "the end\n" in whole


def test_long_conversations_are_cut_behind_an_answer_or_refused(tmp_path: Path) -> None:
    said = [text for i in range(6) for text in (f"question {i}", f"answer {i}")]
    rows = [{"messages": talk(*said)}, {"messages": talk("Hi", "x" * 300)}, {"messages": CHAT}]
    lengths = [
        len(load(tmp_path, [{"messages": talk(*said[: 2 * n])}], rule()).documents[0].ids_N)
        for n in range(1, 7)
    ]
    for most in (lengths[2], lengths[3] - 1):
        corpus = load(tmp_path, rows, rule(most=most))
        first = corpus.documents[0].ids_N
        assert len(first) == lengths[2] and first[-1] == STOP
        assert len(corpus.documents) == 2
        assert corpus.skipped[0][1] == (
            "1 whose first answer is too long for a sequence, "
            "1 cut behind an answer, as they are too long for a sequence"
        )
    message = refused(tmp_path, rows, rule(most=lengths[2], refuse=True))
    assert f"line 1: {lengths[5]} tokens, and a sequence holds {lengths[2]}" in message


def test_what_has_no_target_is_skipped_and_counted(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"messages": [*talk("Hi"), {"role": "assistant", "content": "x", "weight": 0}]},
        {"messages": CHAT},
        {"messages": None},
    ]
    corpus = load(tmp_path, rows, rule())
    assert len(corpus.documents) == 1
    assert corpus.skipped[0][1] == "1 empty, 2 without a target"
    with pytest.raises(LockstepError, match="2 conversations without a target"):
        load(tmp_path, rows[:2], rule())


def test_formats_are_found_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": CHAT}) + "\n")
    (tmp_path / "b.json").write_text(json.dumps([{"prompt": "a", "completion": "b"}]))
    (tmp_path / "c.csv").write_text("prompt,completion\none,two\n")
    (tmp_path / "d.txt").write_text("some words")
    rows = [{"messages": CHAT}, {"messages": None}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "e.parquet")
    (tmp_path / "f.tsv").write_text("messages\tid\n" + json.dumps(CHAT).replace('"', '"') + "\t1\n")
    reading = data.ReadOptions(tmp_path / "cache", chat=rule())
    corpus = data.load(("*", "!cache", "!f.tsv"), tmp_path, TOKENIZER, SIZE, reading)
    formats = [entry.format for entry in corpus.entries]
    assert formats == ["messages", "prompt-completion", "prompt-completion", "text", "messages"]
    assert len(corpus.documents) == 5
    # A plain text ends with its end, too, and all of it counts.
    plain = next(one for one in corpus.documents if one.path.endswith("d.txt"))
    assert plain.mask_N is None and plain.ids_N[-1] == END
    chats = [one.ids_N.tolist() for one in corpus.documents if one.path.endswith(("a.jsonl", "et"))]
    assert chats[0] == chats[1]
    # Another name, and rows that could be read in two ways.
    (tmp_path / "g.jsonl").write_text(json.dumps({"talk": CHAT, "text": "x y"}) + "\n")
    assert read(tmp_path, "g.jsonl", rule(), field="talk").entries[0].format == "messages"
    assert read(tmp_path, "g.jsonl", rule()).entries[0].format == "text"
    (tmp_path / "h.jsonl").write_text(json.dumps({"messages": CHAT, "text": "x y"}) + "\n")
    with pytest.raises(LockstepError, match="got fields of messages and of text") as caught:
        read(tmp_path, "h.jsonl", rule())
    assert caught.value.code == "LS_TRAIN_FORMAT"
    for name in ("messages", "text"):
        assert read(tmp_path, "h.jsonl", rule(), format=name).entries[0].format == name


def test_other_rules_have_entries_of_their_own(tmp_path: Path) -> None:
    rows = [{"messages": CHAT}]
    given = rule()
    digests = {
        load(tmp_path, rows, one).documents.digest
        for one in (
            given,
            rule(MARKED),
            replace(given, loss="last"),
            replace(given, most=500),
            replace(given, end=None),
            replace(given, ends=frozenset([END])),
        )
    }
    assert len(digests) == 6
    assert load(tmp_path, rows, given).documents.digest in digests


def test_without_a_template_or_a_rule_there_are_no_conversations(tmp_path: Path) -> None:
    assert "needs" not in (message := refused(tmp_path, [{"messages": CHAT}], rule(None)))
    assert "conversations need a chat template" in message
    with pytest.raises(LockstepError) as caught:
        read(tmp_path, "a.jsonl", None)
    assert caught.value.code == "LS_TRAIN_FORMAT"


def test_documents_end_with_their_end_once(tmp_path: Path) -> None:
    texts = ["a b", "a b<|im_end|>", "a b<|endoftext|>", "", "x"]
    corpus = load(tmp_path, [{"text": text} for text in texts], rule())
    ends = [one.ids_N.tolist()[-2:] for one in corpus.documents]
    last = TOKENIZER.encode("b", add_special_tokens=False).ids
    assert ends == [[*last, END], [*last, STOP], [*last, END]]
    assert corpus.skipped[0][1] == "1 empty, 1 of one token"
