"""What `older.py` found, as a table, and what was asked, as a sentence. Not the numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cells import plain, small
from .section import Section

Record = Mapping[str, Any]
DISTANCE = "others' distance"


def older_table(records: Sequence[Record]) -> Section:
    """A row per variant and cap. `records`: the findings' `older`."""
    head = ["images", "changed", "largest difference", DISTANCE, "parity"]
    rows = [
        (
            f"{each['variant']}, {each['cap']}",
            [
                plain(f"{each['images']:,}"),
                plain(each["flips"]),
                small(each["largest_difference"]),
                small(each["beyond"]),
                plain("yes" if each["passed"] and not each["wrong"] else "NO"),
            ],
        )
        for each in records
    ]
    return Section("Under older instruction sets, against the same variant with all of this processor's", head, rows, "parity")


def older_sentence(found: Record) -> str:
    """Which images were asked, why those, and what that certifies of the others."""
    asked, images, who = (
        found["older"][0]["images"],
        found["data"]["images"],
        "Under older instruction sets variants answered for",
    )
    if asked == images:
        return f"{who} all {images:,} images." if images > 1 else f"{who} the one image."
    some = f"{asked:,} of {images:,} images"
    if found["task"]["kind"] == "embedding":
        return f"{who} {some}, evenly spaced, since an embedding decides nothing."
    return (
        f"{who} {some}, those whose decisions are nearest to being changed: any other decision changes only where a "
        f"probability moves by the {DISTANCE} or more; those asked moved by the largest difference at most."
    )
