"""Plans jobs in every way there is: a file of JSON named on the command line, results on stdout."""

import json
import random
import sys
from types import SimpleNamespace

from lockstep.contract.planner import Planner, Segmenter, push_batch


def run(job: dict) -> dict:
    """Cuts of the whole, and per other way the number of tokens compared and of differences."""
    contract = SimpleNamespace(document=job["contract"], policy_source=job["policySource"])
    planner, tokens, draw = (
        Planner(contract, seconds=30.0),
        job["tokens"],
        random.Random(7),
    )
    whole = planner.plan(tokens)

    def chunks(segmenter: Segmenter, part: list[int], most: int, *, snapshots: bool) -> list[int]:
        cuts, at = [], 0
        while at < len(part):
            size = draw.randint(1, most)
            cuts += segmenter.push_many(part[at : at + size])
            at += size
            if snapshots:
                text = segmenter.snapshot()
                segmenter.close()
                segmenter = planner.restore(text)
        segmenter.close()
        return cuts

    def prefix_cuts(length: int) -> list[int]:
        return [cut for cut in whole if cut <= length]

    one_by_one, ways = job["oneByOne"], {}
    again = job["again"]
    cuts = chunks(planner.segmenter(), tokens[:again], 400, snapshots=False)
    ways["chunks"] = (again, cuts != prefix_cuts(again))
    single = planner.segmenter()
    cuts = [i + 1 for i, token in enumerate(tokens[:one_by_one]) if single.push(token)]
    ways["tokens"] = (one_by_one, cuts != prefix_cuts(one_by_one) or single.position != one_by_one)
    lengths = [draw.randint(0, 4 * one_by_one) for _ in range(4)]
    wrong = [length for length in lengths if planner.plan(tokens[:length]) != prefix_cuts(length)]
    ways["prefix"] = (sum(lengths), bool(wrong))
    cuts = chunks(planner.segmenter(), tokens[: 4 * one_by_one], 200, snapshots=True)
    ways["snapshot"] = (4 * one_by_one, cuts != prefix_cuts(4 * one_by_one))
    # A snapshot that Node took, and the cuts after it.
    from_node = planner.restore(job["snapshot"])
    at = from_node.position
    cuts = from_node.push_many(tokens[at : at + again])
    ways["other runtime"] = (again, cuts != [cut for cut in prefix_cuts(at + again) if cut > at])
    batch = [planner.segmenter() for _ in range(100)]
    cuts_of = push_batch(batch, [tokens[: 10 * i] for i in range(100)])
    ways["batch"] = (
        49500,
        any(cuts != prefix_cuts(10 * i) for i, cuts in enumerate(cuts_of)),
    )
    planner.close()
    return {"whole": whole, "ways": ways}


with open(sys.argv[1], encoding="utf-8") as file:
    json.dump([run(job) for job in json.load(file)], sys.stdout)
