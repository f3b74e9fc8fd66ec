"""Kubernetes objects on stdin (a JSON list) against its schemas; what is wrong, as a JSON list.

usage: judge_kubernetes.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

FOLDER = Path(sys.argv[1])


def schema_of(document: dict[str, Any]) -> Any:
    group, _, version = document["apiVersion"].rpartition("/")
    name = "-".join([document["kind"].lower(), *filter(None, [group]), version])
    return json.loads((FOLDER / f"{name}.json").read_text("utf8"))


definitions = json.loads((FOLDER / "_definitions.json").read_text("utf8"))
resource = Resource.from_contents(definitions, default_specification=DRAFT7)
registry: Any = Registry().with_resource("_definitions.json", resource)
wrong = [
    f"{document['kind']}: {error.json_path}: {error.message}"
    for document in json.load(sys.stdin)
    for error in Draft7Validator(schema_of(document), registry=registry).iter_errors(document)
]
print(json.dumps(wrong))
