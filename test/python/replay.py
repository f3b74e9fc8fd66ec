"""The official Python client's conversation: its answers go back as it writes them out.

Usage: replay.py URL. Prints one JSON line: for each turn, tokens of the prompt and cached ones.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI

client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
call = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": "{}"}}
messages: list[Any] = [
    {"role": "developer", "content": "Be brief. " * 20},
    {"role": "user", "content": "What is it like outside?", "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [call]},
    {"role": "tool", "tool_call_id": "call00001", "content": [{"type": "text", "text": "dry"}]},
]
turns = []
for _ in range(3):
    answer = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=24, seed=1, logprobs=True, top_logprobs=2
    )
    usage = answer.usage
    assert usage is not None and usage.prompt_tokens_details is not None
    turns.append([usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens])
    messages.append(answer.choices[0].message.model_dump())
    messages.append({"role": "user", "content": "And then? Tell me more of it."})
print(json.dumps(turns))
