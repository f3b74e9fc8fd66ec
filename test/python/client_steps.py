"""What OpenAI's Python client does in a tool loop and in a replayed conversation.

The same steps as in test/clients/steps.ts; what is said is in test/clients/conversation.json.
Answers go back as `model_dump()` writes them: what was not in them is null.

Usage: client_steps.py URL. Prints a JSON list of exchanges.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

SAID = json.loads((Path(__file__).parents[1] / "clients/conversation.json").read_text("utf-8"))


class Session:
    def __init__(self, url: str):
        self.exchanges: list[dict[str, Any]] = []
        self._sent = b""
        hooks = {"request": [self._keep]}
        http = httpx.Client(event_hooks=hooks, timeout=600)
        self._client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http)

    def _keep(self, request: httpx.Request) -> None:
        self._sent = request.read()

    def ask(self, flow: str, streamed: bool, **given: Any) -> dict[str, Any]:
        """The answer's message, written out with all its nulls."""
        ask: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 400, **given}
        completions = self._client.chat.completions
        answer: Any
        if streamed:
            with completions.stream(**ask, stream_options={"include_usage": True}) as stream:
                answer = stream.get_final_completion()
        else:
            answer = completions.create(**ask)
        choice = answer.choices[0]
        message: dict[str, Any] = choice.message.model_dump()
        self.exchanges.append(
            {
                "flow": flow,
                "path": "/v1/chat/completions",
                "body": json.loads(self._sent),
                "message": message,
                "finish": choice.finish_reason,
                "promptTokens": answer.usage.prompt_tokens,
                "cachedTokens": cached(answer.usage.prompt_tokens_details),
            }
        )
        return message

    def respond(self, flow: str, streamed: bool, **given: Any) -> list[dict[str, Any]]:
        """A response's output items, written out with all their nulls."""
        ask: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_output_tokens": 400, **given}
        answer: Any
        if streamed:
            with self._client.responses.stream(**ask) as stream:
                answer = stream.get_final_response()
        else:
            answer = self._client.responses.create(**ask)
        output: list[dict[str, Any]] = [one.model_dump() for one in answer.output]
        self.exchanges.append(
            {
                "flow": flow,
                "path": "/v1/responses",
                "body": json.loads(self._sent),
                "message": output,
                "finish": answer.status,
                "promptTokens": answer.usage.input_tokens,
                "cachedTokens": cached(answer.usage.input_tokens_details),
            }
        )
        return output


def cached(details: Any) -> int:
    """Tokens of the prompt that need not run; -1 where the usage does not say."""
    return -1 if details is None or details.cached_tokens is None else details.cached_tokens


def short() -> dict[str, Any]:
    """A text that ends by itself: a client that streams takes none that was cut off."""
    known = dict(SAID["short"])
    return {"extra_body": {"min_tokens": known.pop("min_tokens")}, **known}


def tool_loop(session: Session, choice: str, streamed: bool) -> None:
    """Two calls that have to come, each with its result, and what the model says of them."""
    flow = f"loop {choice} {'streamed' if streamed else 'whole'}"
    messages: list[dict[str, Any]] = [{"role": "developer", "content": SAID["system"]}]
    for content in (SAID["question"], SAID["again"]):
        messages.append({"role": "user", "content": content})
        called = session.ask(
            flow,
            streamed,
            messages=messages,
            tools=SAID["tools"],
            tool_choice=SAID["choices"][choice],
            parallel_tool_calls=False,
        )
        messages.append(called)
        for call in called["tool_calls"] or ():
            text = SAID["results"][call["function"]["name"]]
            shown = [{"type": "text", "text": text}] if streamed else text
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": shown})
        ask = {"messages": messages, "tools": SAID["tools"], **short()}
        messages.append(session.ask(flow, streamed, **ask))


def replay(session: Session) -> None:
    """Each answer goes back into the conversation, whole and streamed ones in turn."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": SAID["system"]}]
    for i, turn in enumerate(SAID["turns"]):
        messages.append(turn)
        streamed = i % 2 == 1
        lengths = short() if streamed else {"max_tokens": 32}
        messages.append(session.ask("replay", streamed, messages=messages, **lengths))


def responses_loop(session: Session, streamed: bool) -> None:
    """The loop through `/v1/responses`: its items go back. A form lets the texts end."""
    flow = f"responses {'streamed' if streamed else 'whole'}"
    tools = [{"type": "function", "strict": False, **one["function"]} for one in SAID["tools"]]
    items: list[dict[str, Any]] = []
    demanded = {"tool_choice": "required", "parallel_tool_calls": False}
    for content in (SAID["question"], SAID["again"]):
        items.append({"role": "user", "content": content})
        ask = {"instructions": SAID["system"], "input": items, "tools": tools}
        called = session.respond(flow, streamed, **ask, **demanded)
        items.extend(called)
        for one in called:
            if one["type"] == "function_call":
                result = SAID["results"][one["name"]]
                output = {"type": "function_call_output", "call_id": one["call_id"]}
                items.append({**output, "output": result})
        items.extend(session.respond(flow, streamed, **ask, text={"format": SAID["form"]}))


if __name__ == "__main__":
    mine = Session(sys.argv[1])
    for name in SAID["choices"]:
        for mode in (False, True):
            tool_loop(mine, name, mode)
    replay(mine)
    for mode in (False, True):
        responses_loop(mine, mode)
    print(json.dumps(mine.exchanges))
