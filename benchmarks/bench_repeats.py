"""Whether `bench` says the same twice: it runs several times, and every pair of its medians has to agree within what it states.

Not a comparison with a peer, and of no use on a busy machine: then it says so in the result, and proves nothing.

    python benchmarks/bench_repeats.py FILE.efm [--repeats 5] [--runs 100] [--name bench_repeats]

Two runs agree on a contender where the intervals that they state meet (`stated`: a bootstrap over blocks of runs, with the
noise between processes on both sides). `within` is stricter, and told beside it: each median lies in the stated interval of
every other run.

What no run can know is a machine that is slower in the next minute. Two series were made on a shared one: in the first its
pace changed by 30 % from one run to the next, and three of the eight medians disagreed (`bench_repeats_restless`); in the
second, two minutes later, all agreed.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import measure

import edgefm


def agreement(repeats: list[dict[str, Any]], word: str) -> dict[str, Any]:
    """Of one contender's records: its medians, what it stated, and whether the runs agree."""
    stated = [each[word]["stated"] for each in repeats]
    medians = [each[word]["p50"] for each in repeats]
    return {
        "p50": medians,
        "stated": stated,
        "spread": round(max(medians) / min(medians) - 1, 4),
        "agree": all(one[0] <= two[1] and two[0] <= one[1] for one, two in combinations(stated, 2)),
        "within": all(stated[one][0] <= medians[two] <= stated[one][1] for one, two in permutations(range(len(stated)), 2)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--name", default="bench_repeats", help="of the result's file")
    options = parser.parse_args()
    if options.repeats < 2 or options.runs < 6:
        parser.error("it takes at least 2 repeats, of at least 6 runs")
    found = [edgefm.bench((str(options.bundle),), runs=options.runs, allow_refused=True) for _ in range(options.repeats)]
    names = [each["name"] for each in found[0]["contenders"] if "error" not in each]
    by_name = {name: [each for one in found for each in one["contenders"] if each["name"] == name] for name in names}
    contenders = {name: {word: agreement(records, word) for word in ("answer", "model")} for name, records in by_name.items()}
    disturbed = sum(one["disturbed"] is not None for one in found)
    agree = all(each["agree"] for words in contenders.values() for each in words.values())
    measure.save(
        options.name,
        {
            "bundles": found[0]["bundles"],
            "threads": found[0]["threads"],
            "runs": options.runs,
            "repeats": options.repeats,
            "disturbed": disturbed,
            "noise": [one["noise"] and one["noise"]["share"] for one in found],
            "contenders": contenders,
            "agree": agree,
        },
    )
    if disturbed:
        print(f"{disturbed} of {options.repeats} repeats were disturbed: this proves nothing.", file=sys.stderr)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
