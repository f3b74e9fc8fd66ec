"""Runs policies that misbehave: cases as JSON on stdin, what came of each as JSON on stdout."""

import json
import sys
import time
from types import SimpleNamespace

from lockstep.contract.planner import Planner
from lockstep.errors import LockstepError


def run(case: dict) -> dict:
    contract = SimpleNamespace(document=case["contract"], policy_source=case["policySource"])
    start = time.monotonic()
    result: dict = {}
    try:
        planner = Planner(
            contract, seconds=case["milliseconds"] / 1000, megabytes=case["megabytes"]
        )
        segmenter, other = planner.segmenter(), planner.segmenter()
        try:
            result["cuts"] = segmenter.push_many(case["tokens"])
            result["snapshot"] = segmenter.snapshot()
        finally:
            result |= {
                "again": code_of(lambda: segmenter.push(1)),
                "other": code_of(lambda: other.push(1)),
            }
    except LockstepError as error:
        result |= error.as_dict()
    return result | {"seconds": time.monotonic() - start}


def code_of(call) -> str:  # type: ignore[no-untyped-def]
    try:
        call()
    except LockstepError as error:
        return error.code
    return "ok"


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
