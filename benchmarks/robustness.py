"""What worse images cost: the balanced error of a student and of its int8 under every corruption, beside their teacher's.

What `edgefm verify --robustness` measures, on as many images as there is time for; not the gate, and no timing.

    python benchmarks/robustness.py FILE.efm DATA --against MODEL [--modality xray] [--images 100] [--seed 0]

Per corruption: the errors at five severities and their mean, of all three on the same images. Over all corruptions: student and
int8 against the teacher, and int8 against its own fp32, with intervals by patient. All three run in OpenVINO: `edgefm export`
makes a bundle of the teacher, through its parity gate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure

import edgefm
from edgefm.bundle import open_bundle
from edgefm.data import Dataset, check_images, clusters, load_data
from edgefm.verification import recorded
from edgefm.verify.contenders import Contender, comparable, variants_of
from edgefm.verify.robustness import plan, robustness

SMALL, LARGE = "openvino-int8", "openvino-fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--against", required=True, help="the teacher, any MODEL")
    parser.add_argument("--modality", default="xray")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with ExitStack() as opened:
        bundle = opened.enter_context(open_bundle(options.bundle))
        task = bundle.manifest.task
        everything = load_data(options.data, recorded(bundle.manifest.recipe, "the bundle", said).data, labels=task.labels)
        images = check_images(everything.take(everything.of("test")))
        plan(options.modality, options.images, task, images.labels is not None)
        own = {each.name: each for each in variants_of(bundle)[0]}
        folder = Path(opened.enter_context(TemporaryDirectory()))
        exported = opened.enter_context(open_bundle(edgefm.export(options.against, folder / "teacher.efm")))
        teacher = replace(next(each for each in variants_of(exported)[0] if each.name == LARGE), name="teacher")
        comparable(teacher, task)
        three = [teacher, replace(own[LARGE], name="student"), replace(own[SMALL], name="student in int8")]
        found, seconds = measured(images, three, options)
        small, _ = measured(images, three[1:], options)
        measure.save(
            "robustness",
            {
                "bundle": {"name": options.bundle.name, "id": bundle.id},
                "data": {"name": images.name, "split": "test", "images": len(images)},
                "modality": options.modality,
                "images": found["images"],
                "seed": options.seed,
                "seconds": seconds,
                "against_teacher": summary(found),
                "int8_against_fp32": summary(small),
                "balanced_error": errors(found),
            },
        )


def measured(images: Dataset, contenders: Sequence[Contender], options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """What `robustness` finds against the first contender, and the seconds that it took."""
    start = time.perf_counter()
    found = robustness(
        images,
        contenders,
        reference=contenders[0],
        modality=options.modality,
        groups=clusters(images),
        seed=options.seed,
        bar=lambda done, left: print(f"\r{done:.1%}, {left:.0f} s left ", end="", file=sys.stderr),
        limit=options.images,
    )
    return found, round(time.perf_counter() - start, 1)


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Over all corruptions, each but the reference against it: what `robustness` sums up, value, low and high."""
    reference, *others = found["summary"]
    table: dict[str, Any] = {"reference": reference}
    for name in others:
        records = found["summary"][name].items()
        table[name] = {what: [round(each[end], 4) for end in ("value", "low", "high")] for what, each in records}
    return table


def errors(found: dict[str, Any]) -> dict[str, Any]:
    """Balanced error of each contender on clean images, and by corruption: at each severity, mild ones first, and the mean."""
    table: dict[str, Any] = {"clean": {name: round(each["balanced_error"], 4) for name, each in found["clean"].items()}}
    for corruption in dict.fromkeys(cell["name"] for cell in found["corruptions"]):
        cells = [cell["variants"] for cell in found["corruptions"] if cell["name"] == corruption]
        rows = {name: [round(cell[name]["balanced_error"], 4) for cell in cells] for name in found["clean"]}
        table[corruption] = {name: {"mean": round(sum(row) / len(row), 4), "by_severity": row} for name, row in rows.items()}
    return table


def said(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
