"""Make, follow and read a batch with OpenAI's Python client; prints what came of it as JSON.

Arguments: the base URL, the input file. The batch is for ``/v1/chat/completions``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from openai import NotFoundError, OpenAI


def main() -> None:
    client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
    with Path(sys.argv[2]).open("rb") as lines:
        file = client.files.create(file=lines, purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"from": "Python"},
    )
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    read = {}
    for name in (batch.output_file_id, batch.error_file_id):
        assert name is not None
        read[name] = [json.loads(line) for line in client.files.content(name).iter_lines()]
    listed = [one.id for one in client.batches.list(limit=1)]
    names = [one.filename for one in client.files.list(purpose="batch")]
    client.files.delete(file.id)
    try:
        client.files.retrieve(file.id)
        gone = False
    except NotFoundError:
        gone = True
    told = {
        "batch": batch.model_dump(),
        "output": read[batch.output_file_id],
        "error": read[batch.error_file_id],
        "listed": listed,
        "names": names,
        "gone": gone,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
