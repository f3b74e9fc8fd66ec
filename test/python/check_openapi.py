"""Judge answers of the server by the schemas of docs/openapi.json.

Reads ``[{"schema": name, "value": ...}, ...]`` from stdin, prints what does not fit as texts.
The schemas themselves are checked first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    problems = []
    validators = {}
    for name in document["components"]["schemas"]:
        schema = {
            "$ref": f"#/components/schemas/{name}",
            "components": document["components"],
        }
        Draft202012Validator.check_schema(document["components"]["schemas"][name])
        validators[name] = Draft202012Validator(schema)
    for sample in json.load(sys.stdin):
        for error in validators[sample["schema"]].iter_errors(sample["value"]):
            problems.append(f"{sample['schema']}: {error.json_path}: {error.message[:300]}")
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
