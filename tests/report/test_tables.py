"""Tables of the report: nothing that was measured is left out, and what is not there is a dash."""

from __future__ import annotations

import math

from edgefm.report import tables

from ..verify.test_page import interval
from .records import full


def test_whether_decisions_change_by_group_is_told_without_labels_and_without_a_worst_group() -> None:
    found = full()
    (column,) = found["subgroups"]
    column |= {"worst": {}, "gap": {}, "gap_change": {}}
    for group in column["groups"]:
        group["metrics"] = {name: {} for name in group["metrics"]}
    sections = tables.subgroups(found)
    (test,) = (each for each in sections if "change more often" in each.title)
    assert test.rows[0] == ("openvino-fp32", [("2.10", ""), ("2", ""), ("0.350", "")])
    assert len(test.rows) == 3
    column["chi_squared"]["onnx-int8"] = {"statistic": math.nan, "df": 2, "p": math.nan}
    assert tables.subgroups(found)[-1].rows[2] == ("onnx-int8", [("-", ""), ("2", ""), ("-", "")])


def test_subgroups_of_an_embedding_show_their_cosine() -> None:
    found = full()
    (column,) = found["subgroups"]
    for group in column["groups"]:
        group["metrics"] = {name: {"mean_cosine": interval(0.987, 0.98, 0.99)} for name in group["metrics"]}
    first = tables.subgroups(found)[0]
    place = first.head.index("mean cosine")
    assert first.rows[0][1][place] == ("0.987", "0.980-0.990")
    gap = interval(0.01, 0.0, 0.02)
    column |= {"worst": {"onnx-int8": {"mean_cosine": "A"}}, "gap": {"onnx-int8": {"mean_cosine": gap}}}
    assert tables.subgroups(found)[1].rows == [
        ("onnx-int8", [("mean cosine", ""), ("A", ""), ("+1.00", "0.00, +2.00"), ("-", "")])
    ]


def test_an_error_that_the_images_do_not_define_is_a_dash_and_no_nan() -> None:
    for undefined in (math.nan, None):
        found = full()
        found["robustness"]["clean"]["onnx-int8"]["balanced_error"] = undefined
        found["robustness"]["corruptions"][0]["variants"]["onnx-int8"]["balanced_error"] = undefined
        (section,) = tables.robustness(found)
        assert section.rows[0][1][-1] == ("-", "")
        assert section.rows[1][1][-1] == ("-", "")


def test_a_case_has_its_label_in_words_none_of_several_and_a_dash_where_unknown() -> None:
    (case,) = full()["cases"]
    (section,) = tables.cases(full(cases=[case, {**case, "label": ""}, {**case, "label": None}]), 10)
    assert [cells[1][0] for _, cells in section.rows] == ["ill", "none", "-"]
