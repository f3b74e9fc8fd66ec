"""What transformers makes of conversations that clients sent, and whether calls fit their schemas.

Usage: client_reference.py DIR < bodies. Reads a JSON list of `{body, message}`. Prints for each the
ids of `apply_chat_template` (of a completion: those of its text), and what is wrong with the
arguments of the calls in `message`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
from transformers import AutoTokenizer


def shown(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a template takes it: without nulls, parts joined, arguments as values."""
    kept = {name: value for name, value in message.items() if value is not None}
    content = kept.get("content", "")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    role = "system" if message["role"] == "developer" else message["role"]
    kept |= {"role": role, "content": content}
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [called(call) for call in calls]
    return kept


def called(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.loads(function["arguments"])
    return {**call, "function": {"name": function["name"], "arguments": arguments}}


def functions(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [one.get("function", one) for one in body.get("tools") or ()]


def as_chat(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A request's messages; items of `/v1/responses` as the messages that they stand for."""
    if "messages" in body:
        return list(body["messages"])
    messages: list[dict[str, Any]] = [{"role": "system", "content": body["instructions"]}]
    for item in body["input"]:
        if item.get("type") == "function_call":
            call = {"id": item["call_id"], "type": "function", "function": item}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif item.get("type") == "function_call_output":
            result = {"tool_call_id": item["call_id"], "content": item["output"]}
            messages.append({"role": "tool", **result})
        else:
            messages.append({"role": item["role"], "content": item["content"]})
    return messages


def tools(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    given = functions(body)
    own = [{name: value for name, value in one.items() if name != "type"} for one in given]
    return [{"type": "function", "function": one} for one in own] or None


def problems(body: dict[str, Any], message: Any) -> list[str]:
    schemas = {one["name"]: one for one in functions(body)}
    items = message if isinstance(message, list) else message.get("tool_calls") or ()
    found = []
    for call in items:
        if call["type"] == "message":
            continue
        function = call.get("function", call)
        if function["name"] not in schemas:
            found.append(f"no such tool: {function['name']}")
            continue
        try:
            value = json.loads(function["arguments"])
            jsonschema.validate(value, schemas[function["name"]]["parameters"])
        except (ValueError, jsonschema.ValidationError) as error:
            found.append(f"{function['arguments']}: {error}")
    return found


def ids(tokenizer: Any, body: dict[str, Any]) -> list[int]:
    if "prompt" in body:
        return list(tokenizer(body["prompt"], truncation=False, padding=False)["input_ids"])
    encoded = tokenizer.apply_chat_template(
        [shown(message) for message in as_chat(body)],
        tools=tools(body),
        add_generation_prompt=True,
        return_dict=True,
        **body.get("chat_template_kwargs", {}),
    )
    return list(encoded["input_ids"])


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    answers = []
    for given in json.load(sys.stdin):
        body = given["body"]
        wrong = problems(body, given["message"])
        answers.append({"ids": ids(tokenizer, body), "problems": wrong})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
