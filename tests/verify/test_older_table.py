"""What is said of older instruction sets: a row per variant and cap, and which images were asked."""

from __future__ import annotations

from typing import Any

import pytest

from edgefm.verify.older_table import older_sentence, older_table
from edgefm.verify.page import conclusions, sections

from .test_page import record


def under_cap(**fields: Any) -> dict[str, Any]:
    return {
        "name": "openvino-int8 capped to AVX2", "variant": "openvino-int8", "cap": "AVX2", "images": 256,
        "largest_difference": 0.0123, "flips": 2, "beyond": 0.187, "wrong": "", "passed": True, **fields,
    }  # fmt: skip


def test_a_row_tells_how_many_changed_how_far_and_how_far_the_others_are() -> None:
    table = older_table([under_cap(), under_cap(flips=None, beyond=None), under_cap(wrong="off"), under_cap(passed=False)])
    name, cells = table.rows[0]
    assert name == "openvino-int8, AVX2"
    assert [value for value, _ in cells] == ["256", "2", "0.012", "0.19", "yes"]
    assert len(table.head) == 5
    assert [value for value, _ in table.rows[1][1]] == ["256", "-", "0.012", "-", "yes"]
    assert [cells[-1][0] for _, cells in table.rows[2:]] == ["NO", "NO"]


@pytest.mark.parametrize(
    ("images", "asked", "kind", "words"),
    [
        (1211, 256, "binary", "256 of 1,211 images, those whose decisions are nearest to being changed: any other decision"),
        (1211, 256, "embedding", "256 of 1,211 images, evenly spaced, since an embedding decides nothing."),
        (256, 256, "binary", "answered for all 256 images."),
        (1, 1, "embedding", "answered for the one image."),
    ],
)
def test_the_sentence_says_which_images_were_asked_and_why_those(images: int, asked: int, kind: str, words: str) -> None:
    found = record(older=[under_cap(images=asked)])
    assert words in older_sentence(
        {**found, "data": {**found["data"], "images": images}, "task": {**found["task"], "kind": kind}}
    )


def test_both_are_on_the_page_where_caps_were_asked_for_and_nowhere_else() -> None:
    asked, plain = record(older=[under_cap()]), record(older=[])
    for everything in (False, True):
        (table,) = (each for each in sections(asked, everything=everything) if "older" in each.title)
        assert table.topic == "parity"
        assert len(list(sections(plain, everything=everything))) == len(list(sections(asked, everything=everything))) - 1
    assert older_sentence(asked) in conclusions(asked)
    assert [line for line in conclusions(asked) if line not in conclusions(plain)] == [older_sentence(asked)]
