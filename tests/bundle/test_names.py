"""Names that lead out of the folder, clash on some system, or stand in the wrong place. In archives: test_archive.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefm.bundle.names import LONGEST, check_name, check_names, is_appended
from edgefm.errors import BundleError

GOOD = ["manifest.json", "card.md", "golden/a.npy", "labels.json", "licences/A-1.0+x", "variants/onnx-fp32/encoder.onnx"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("golden/../../etc/passwd", "leads out"),
        ("golden/..", "leads out"),
        ("/golden/a", "absolute"),
        ("C:/golden/a", "absolute"),
        ("golden\\a", "backslash"),
        ("", "no place"),
        ("golden", "no place"),
        ("golden/", "no place"),
        ("golden//a", "no place"),
        ("golden/.hidden", "no place"),
        ("golden/a.", "no place"),
        ("golden/a b", "no place"),
        ("golden/a\n", "no place"),
        ("golden/a\0", "no place"),
        ("golden/ä", "no place"),
        ("golden/-rf", "no place"),
        ("Golden/a", "no place"),
        ("README.md", "no place"),
        ("variants/a", "no place"),
        ("variants/onnx-fp16/a", "no place"),
        ("variants/tflite-int8/a", "no place"),
        ("variants/onnx-fp32", "no place"),
        ("adapters/a", "no place"),
        ("golden/" + "a" * LONGEST, "characters"),
    ],
)
def test_a_name_that_could_do_harm_or_has_no_place_is_refused_in_one_line(name: str, says: str) -> None:
    with pytest.raises(BundleError, match=says) as caught:
        check_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [*GOOD, "preprocess.onnx", "adapters/lora/x/y.bin", "evidence/r.json", "golden/" + "a" * 248])
def test_names_that_have_a_place_are_let_in(name: str) -> None:
    check_name(name)


@given(st.text(max_size=40))
def test_no_name_that_is_let_in_leaves_its_folder(text: str) -> None:
    for name in (text, f"golden/{text}", f"variants/onnx-int8/{text}"):
        try:
            check_name(name)
        except BundleError:
            continue
        assert name.isascii()
        assert all(part and part.strip(".") and not part.startswith((".", "-")) for part in name.split("/"))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([*GOOD, "golden/A.npy"], "comes twice"),
        ([*GOOD, "golden/a.npy"], "comes twice"),
        ([*GOOD, "golden/a.npy/b"], "a file and a folder at once"),
        ([*GOOD, "golden/A.NPY/b"], "a file and a folder at once"),
        (GOOD[1:], "card.md comes out of order; expected manifest.json"),
        ([GOOD[0], *reversed(GOOD[1:])], "out of order"),
        ([GOOD[0], "evidence/a", *GOOD[1:]], "evidence/a comes out of order; expected card.md"),
    ],
)
def test_names_that_clash_or_stand_in_another_order_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        check_names(names)


def test_what_was_appended_keeps_the_order_of_appending() -> None:
    check_names([*GOOD, "signatures/b", "evidence/a"])
    check_names([*GOOD, "evidence/a", "signatures/b"])
    assert [name for name in ("evidence/a", "signatures/b", "golden/a", "evidence") if is_appended(name)] == [
        "evidence/a",
        "signatures/b",
    ]
