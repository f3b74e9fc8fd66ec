"""ChitChat's conversations as rows of messages: python make_chats.py dataset.json OUT.jsonl

Two people write to each other. Who begins is the user, the other the assistant; what one writes in
a row is one message. Conversations with fewer than two answers are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def messages(turns: list[list[dict[str, Any]]]) -> list[dict[str, str]]:
    """Messages of one conversation, the roles in turn, an answer last."""
    out: list[dict[str, str]] = []
    first = turns[0][0]["sender"] if turns and turns[0] else None
    for turn in turns:
        for one in turn:
            role = "user" if one["sender"] == first else "assistant"
            text = " ".join(str(one["text"]).split())
            if not text:
                continue
            if out and out[-1]["role"] == role:
                out[-1]["content"] += "\n" + text
            else:
                out.append({"role": role, "content": text})
    while out and out[-1]["role"] == "user":
        out.pop()
    return out


def main(source: str, target: str) -> None:
    dataset = json.loads(Path(source).read_text(encoding="utf-8"))
    rows = [{"messages": messages(one["messages"])} for one in dataset.values()]
    kept = [row for row in rows if len(row["messages"]) >= 4]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    Path(target).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
