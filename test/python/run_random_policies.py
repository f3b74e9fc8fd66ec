"""Runs random policies: sources as JSON on stdin, plans and snapshots as JSON on stdout."""

import json
import sys
from types import SimpleNamespace

from lockstep.contract.planner import Planner, interleaved_plans
from lockstep.errors import LockstepError


def run(case: dict) -> dict:
    contract = SimpleNamespace(document=case["contract"], policy_source=case["policySource"])
    try:
        planner = Planner(contract)
        segmenter = planner.segmenter()
        cuts = segmenter.push_many(case["tokens"])
        (interleaved,) = interleaved_plans(contract, [case["tokens"]])
        return {"cuts": cuts, "snapshot": segmenter.snapshot(), "interleaved": interleaved}
    except LockstepError as error:
        return {"code": error.code, "message": str(error)}


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
