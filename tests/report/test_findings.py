"""What the page says: the worst comes first, a chapter is there only where there is something to say, commands are whole."""

from __future__ import annotations

import math

import pytest

from edgefm.report.findings import page, verdict
from edgefm.report.markdown import markdown

from ..verify.test_page import record
from .records import everything, full

BROKEN = {"passed": False, "limit": 1e-3, "inputs": 9, "reasons": ["a and b are 0.2 apart"]}


def test_a_pass_says_what_was_shown_and_on_whom() -> None:
    assert verdict(full()) == (
        "pass",
        "lung | small may take the place of densenet: torch: on 1,211 images of 603 patients, all 6 checks stay "
        "within the margin.",
        [],
    )


def test_a_refusal_counts_what_failed() -> None:
    found = full()
    found["gate"]["checks"][0]["passed"] = found["gate"]["passed"] = False
    found["gate"]["reasons"] = ["openvino-fp32: auc may be worse by 0.060 (margin 0.05)"]
    word, sentence, reasons = verdict(found)
    assert (word, reasons) == ("refused", ["openvino-fp32: auc may be worse by 0.060 (margin 0.05)."])
    assert "1 of 6 checks could not be shown to stay within the margin" in sentence


def test_a_check_that_was_not_made_is_counted_apart() -> None:
    found = full()
    found["gate"]["checks"][0] |= {"passed": None, "worst": math.nan}
    found["gate"]["not_judged"] = ["openvino-fp32: calibration slope: not judged: too few errors"]
    word, sentence, _ = verdict(found)
    assert word == "pass"
    assert sentence.endswith("all 5 checks stay within the margin. 1 check could not be made: too few errors.")
    assert page(found).reasons == ["openvino-fp32: calibration slope: not judged: too few errors."]
    text = markdown(page(found))
    assert "- openvino-fp32: calibration slope: not judged: too few errors." in text
    found["gate"]["checks"][1]["passed"] = found["gate"]["passed"] = False
    assert "1 of 5 checks could not be shown to stay within the margin. 1 check could not be made" in verdict(found)[1]


def test_a_changed_case_has_its_patient_and_both_decisions_with_their_probabilities() -> None:
    ((section,),) = (each.tables for each in page(full()).chapters if each.topic == "cases")
    row = dict(zip(section.head[:3], (value for value, _ in section.rows[0][1])))
    assert row == {"patient": "P-17", "label": "ill", "variant": "openvino-int8"}
    assert [value for value, _ in section.rows[0][1][3:]] == ["ill", "0.400 0.600", "normal", "0.800 0.200", "0.400"]
    unknown = full(cases=[{**full()["cases"][0], "patient": None, "label": None, "after": ""}])
    ((section,),) = (each.tables for each in page(unknown).chapters if each.topic == "cases")
    assert [value for value, _ in section.rows[0][1]][:2] == ["-", "-"]
    assert section.rows[0][1][5] == ("none", "")


def test_what_fails_alike_in_many_variants_is_said_once() -> None:
    found = full()
    names = [each["name"] for each in found["variants"][1:]]
    found["gate"] |= {"passed": False, "reasons": [f"{name}: auc may be worse by 0.060 (margin 0.05)" for name in names]}
    found["gate"]["reasons"].append("onnx-int8: flips cannot be judged")
    assert verdict(found)[2] == [
        "openvino-fp32, openvino-int8, onnx-int8: auc may be worse by 0.060 (margin 0.05).",
        "onnx-int8: flips cannot be judged.",
    ]


def test_without_a_gate_there_is_no_verdict() -> None:
    assert verdict(record())[0] == "no verdict"


def test_a_broken_parity_is_worse_than_a_gate_that_passes_and_so_is_an_earlier_refusal() -> None:
    refused = {**full()["bundle"], "refused": "too many decisions change"}
    assert verdict(full(parity=BROKEN))[0] == "broken"
    assert verdict(full(bundle=refused)) == (
        "refused",
        "lung | small was refused when it was built, and must not be used: too many decisions change.",
        [],
    )


def test_the_reasons_are_those_of_the_word_on_top_and_the_gates_are_in_its_chapter() -> None:
    gate = {**full()["gate"], "passed": False, "reasons": ["onnx-int8: auc may be worse by 0.060 (margin 0.05)"]}
    shown = page(full(parity=BROKEN, gate=gate))
    assert (shown.word, shown.reasons) == ("broken", ["a and b are 0.2 apart."])
    (chapter,) = (each for each in shown.chapters if each.topic == "gate")
    assert chapter.text[1].startswith("THE GATE SAYS REFUSED.")
    assert chapter.text[2] == "onnx-int8: auc may be worse by 0.060 (margin 0.05)."
    assert len(page(full(gate=gate)).reasons) == 1
    (chapter,) = (each for each in page(full(gate=gate)).chapters if each.topic == "gate")
    assert len(chapter.text) == 1  # on top already


def test_a_record_without_the_optional_parts_has_no_chapter_of_them() -> None:
    all_of_them = {chapter.topic for chapter in everything().chapters}
    few = {chapter.topic for chapter in page(record()).chapters}
    assert {"subgroups", "robustness", "cases", "latency", "roc", "calibration", "gate"} <= all_of_them - few
    assert {"accuracy", "agreement", "parity", "lineage", "machine", "again"} <= few
    assert "more" not in all_of_them


def test_every_figure_has_words_and_numbers() -> None:
    figures = [figure for chapter in everything().chapters for figure in chapter.figures]
    assert [figure.name for figure in figures] == [
        *("margins", "pareto", "roc", "reliability", "forest-1", "robustness", "latency")
    ]
    for figure in figures:
        assert len(figure.alternative) > 40
        assert figure.numbers.rows
        assert all(len(cells) == len(figure.numbers.head) for _, cells in figure.numbers.rows), figure.name


def test_every_table_has_a_cell_for_every_head() -> None:
    for chapter in everything().chapters:
        for table in chapter.tables:
            assert table.rows, table.title
            assert all(len(cells) == len(table.head) for _, cells in table.rows), table.title


def test_more_cases_than_a_page_holds_are_said_to_be_elsewhere() -> None:
    (case,) = full()["cases"]
    (chapter,) = (each for each in page(full(cases=[case] * 501)).chapters if each.topic == "cases")
    assert "Changed decisions: 501" in chapter.text[0]
    assert "The first 500 are shown" in chapter.text[0]
    assert len(chapter.tables[0].rows) == 500


def test_the_gate_is_there_once_in_numbers_and_undefined_ones_too() -> None:
    (chapter,) = (each for each in everything().chapters if each.topic == "gate")
    assert (len(chapter.figures), len(chapter.tables)) == (1, 0)
    found = full()
    for each in found["gate"]["checks"]:
        each |= {"worst": math.nan, "passed": False}
    (chapter,) = (each for each in page(found).chapters if each.topic == "gate")
    assert (len(chapter.figures), len(chapter.tables)) == (0, 1)  # nothing can be drawn
    assert "undefined" in str(chapter.tables[0].rows)


@pytest.mark.parametrize("missing", ["lineage", "bytes"])
def test_a_record_of_an_earlier_version_still_has_a_page(missing: str) -> None:
    found = full()
    del found["bundle"][missing]
    assert page(found).chapters
