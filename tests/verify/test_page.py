"""What a person reads: intervals under their values, signs on differences, and the gate before the rest."""

from __future__ import annotations

import math
from typing import Any

from edgefm.spec.task import make_task
from edgefm.verify.page import conclusions, introduction, sections
from edgefm.verify.section import Section

TASK = {"kind": "binary", "labels": ["normal", "ill"], "thresholds": [0.31], "temperature": 1.0}


def interval(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "undefined": 0}


def variant(name: str, **fields: Any) -> dict[str, Any]:
    empty = {"metrics": {}, "difference": {}, "labels": {}, "flips": None, "mean_cosine": None, "largest_difference": None}
    beside = {"operating": {}, "calibration": None, "calibration_slope": None, "slope_loss": None, "tests": None}
    return {"name": name, "precision": "fp32", "reference": False, "golden": "", **empty, **beside, **fields}


def record(**fields: Any) -> dict[str, Any]:
    nan = math.nan
    one = variant("onnx-fp32", reference=True, metrics={"auc": interval(0.99, 0.98, 0.995), "f1": interval(nan, nan, nan)})
    two = variant(
        "onnx-int8",
        metrics={"auc": interval(0.9876, 0.97, 0.994), "f1": interval(nan, nan, nan)},
        difference={"auc": interval(-0.0024, -0.004, 0.00001), "f1": interval(nan, nan, nan)},
        flips={"count": 7, "of": 1211, "share": interval(7 / 1211, 0.002, 0.01)},
        largest_difference=0.0317,
    )
    pair = {"one": "onnx-fp32", "other": "onnx-int8", "largest_difference": 0.0317, "flips": 7, "exact": False, "passed": True}
    return {
        "edgefm": "1",
        "cpu": {"name": "Some <b>CPU</b>", "features": []},
        "versions": {"onnxruntime": "1.2.3"},
        "bundle": {"name": "lung | small", "id": "0123456789abcdef", "refused": None},
        "task": TASK,
        "data": {
            "name": "d.csv", "split": "test", "sha256": "", "left_out": 1, "images": 1211, "labelled": True,
            "groups": 603, "by": "patient",
        },
        "intervals": {"level": 0.95, "draws": 1000, "seed": 0},
        "reference": "onnx-fp32",
        "variants": [one, two],
        "between": [pair],
        "left_out": {"openvino-fp32": "OpenVINO is not installed"},
        "parity": {"passed": True, "limit": 1e-3, "inputs": 9, "reasons": []},
        "gate": None,
        "notes": ["something to know"],
        **fields,
    }  # fmt: skip


def test_the_introduction_says_what_was_measured_on_what() -> None:
    assert introduction(record()) == [
        "lung | small, id 0123456789ab",
        "1,211 images of 603 patients, split test of d.csv, 1 left out",
        "binary: ill from a probability of 0.3100 on, else normal",
        "reference: onnx-fp32; intervals: 95 %, 1,000 draws of whole patients",
    ]


def test_the_tables_have_values_with_their_intervals_and_signs_on_differences() -> None:
    metrics, differences, agreement = sections(record())
    assert metrics.head == ["AUC", "F1"]
    assert metrics.rows[1] == ("onnx-int8", [("0.988", "0.970-0.994"), ("-", "")])
    assert differences.title == "Difference from onnx-fp32, in points of 0.01"
    assert differences.rows == [("onnx-int8", [("-0.24", "-0.40, 0.00"), ("-", "")])]
    assert agreement.rows == [("onnx-int8", [("7 of 1211", ""), ("0.58 %", "0.20-1.00"), ("0.032", "")])]


def test_an_interval_without_width_is_not_shown_and_takes_no_line() -> None:
    same = {"auc": interval(1.0, 1.0, 1.0)}
    first = next(sections(record(variants=[variant("onnx-fp32", reference=True, metrics=same)], between=[])))
    assert first.rows == [("onnx-fp32", [("1.000", "")])]
    assert first.lines() == [["onnx-fp32", "1.000"]]
    assert Section("", ["a"], [("x", [("1", "0-2")])]).lines() == [["x", "1"], ["", "0-2"]]


def test_the_conclusions_say_what_holds_what_could_not_run_and_what_to_know() -> None:
    assert conclusions(record()) == [
        "Parity holds: every variant answers the 9 golden inputs as it should.",
        "Without openvino-fp32: OpenVINO is not installed.",
        "Note: something to know.",
    ]
    exact = {"one": "a-fp32", "other": "b-fp32", "largest_difference": 2e-7, "flips": 1, "exact": True, "passed": True}
    bare = {"passed": True, "limit": 1e-3, "inputs": 0, "reasons": []}
    assert conclusions(record(between=[exact], parity=bare, left_out={}, notes=[])) == [
        "Parity holds between a-fp32 and b-fp32: 2e-07 apart at most, 1 decision changed."
    ]
    broken = {"passed": False, "limit": 1e-3, "inputs": 9, "reasons": ["a and b are 0.2 apart"]}
    assert conclusions(record(parity=broken))[0] == "PARITY IS BROKEN: a and b are 0.2 apart."


def test_each_label_has_a_line_and_a_page_has_all_its_metrics() -> None:
    labels = {label: {name: interval(0.5, 0.4, 0.6) for name in ("auc", "sensitivity", "brier")} for label in ("a", "b")}
    found = record(variants=[variant("onnx-fp32", reference=True, labels=labels)], between=[])
    assert [section.title for section in sections(found)] == ["AUC of each label", "Sensitivity of each label"]
    assert [name for name, _ in next(sections(found)).rows] == ["a", "b"]
    assert "Brier of each label" in [section.title for section in sections(found, everything=True)]


def test_a_long_list_of_labels_with_one_threshold_names_it_once() -> None:
    task = make_task("multilabel", tuple("abc"))
    told = introduction(record(task={"kind": task.kind, "labels": task.labels, "thresholds": task.thresholds}))
    assert told[2] == "multilabel: each of a, b, c from a probability of 0.5000 on"


def gated(*checks: tuple[str, str, float, float]) -> dict[str, Any]:
    """A gate's record; each check: contender, what, worst, margin."""
    found = [
        {"name": name, "what": what, "loss": 0.0, "worst": worst, "margin": margin, "passed": worst < margin}
        for name, what, worst, margin in checks
    ]
    passed = all(each["passed"] for each in found)
    margins = {what: margin for _, what, _, margin in checks}
    reasons = [] if passed else ["onnx-int8: auc may be worse by 0.030 (margin 0.02)"]
    return {"passed": passed, "alpha": 0.025, "margins": margins, "reasons": reasons, "not_judged": [], "checks": found}


def test_the_gates_word_comes_first_with_what_may_be_lost_beside_each_margin() -> None:
    found = record(gate=gated(("onnx-int8", "auc", 0.004, 0.02), ("onnx-int8", "flips", 0.011, 0.1)))
    said = "THE GATE SAYS PASS. Shown at 2.5 % (one-sided): worse than onnx-fp32 by less than the margins, if at all."
    assert conclusions(found)[0] == said
    (section,) = (each for each in sections(found) if "margins" in each.title)
    assert section.head == ["AUC", "flips"]
    assert section.rows == [("onnx-int8", [("0.40", ""), ("1.10", "")]), ("margin", [("2.00", ""), ("10.00", "")])]


def test_a_refusal_has_its_reasons_and_marks_what_fails() -> None:
    slope = ("onnx-int8", "calibration_slope", math.log(1.25), math.log(1.5))  # no points, but how many times
    (section,) = (each for each in sections(record(gate=gated(slope))) if "margins" in each.title)
    assert section.rows == [("onnx-int8", [("1.25 times", "")]), ("margin", [("1.50 times", "")])]
    found = record(gate=gated(("onnx-int8", "auc", 0.03, 0.02), ("onnx-int8", "sensitivity", math.nan, 0.05)))
    lines = conclusions(found)
    assert lines[0].startswith("THE GATE SAYS REFUSED. Not shown at 2.5 % (one-sided): worse than onnx-fp32 by less than")
    assert lines[1] == "- onnx-int8: auc may be worse by 0.030 (margin 0.02)."
    (section,) = (each for each in sections(found) if "margins" in each.title)
    assert section.rows[0] == ("onnx-int8", [("3.00 NO", ""), ("undefined", "")])


def test_a_check_that_was_not_made_is_said_under_the_verdict_and_in_the_table() -> None:
    gate = gated(("onnx-int8", "auc", 0.004, 0.02), ("onnx-int8", "calibration_slope", math.nan, 0.4))
    gate["checks"][1]["passed"] = None
    gate |= {"passed": True, "reasons": [], "not_judged": ["onnx-int8: calibration slope: not judged: too few errors"]}
    lines = conclusions(record(gate=gate))
    assert lines[0].endswith("by less than the margins, if at all, but for what follows:")
    assert lines[1] == "- onnx-int8: calibration slope: not judged: too few errors."
    (section,) = (each for each in sections(record(gate=gate)) if "margins" in each.title)
    assert section.rows[0] == ("onnx-int8", [("0.40", ""), ("not judged", "")])
    gate |= {"passed": False, "reasons": ["onnx-int8: auc may be worse by 0.030 (margin 0.02)"]}
    assert lines[1] in conclusions(record(gate=gate))


def test_calibration_operating_points_and_tests_have_tables_of_their_own() -> None:
    found = record()
    parts = {"reliability": 0.004, "generalized_resolution": 0.15, "uncertainty": 0.2}
    for each in found["variants"]:
        each["calibration"] = {"ece": 0.0312, "ece_adaptive": 0.0287, "brier": parts, "reliability": {}}
        each["calibration_slope"] = interval(0.9, 0.8, 1.0)
        each["operating"] = {"auprc": interval(0.97, 0.96, 0.98), "sensitivity_at_0.9_specificity": interval(0.93, 0.9, 0.95)}
    mcnemar = {"only_one": 3, "only_other": 4, "mid_p": 0.7266}
    found["variants"][1]["tests"] = {"mcnemar": mcnemar, "delong": {"p": 0.0000123}}
    shown = {section.title: section for section in sections(found, everything=True)}
    calibration = shown["Calibration: what a probability is worth"]
    bins = [(text, "") for text in ("0.031", "0.029", "0.004", "0.150", "0.200")]
    assert calibration.rows[1] == ("onnx-int8", [("0.900", "0.800-1.000"), *bins])
    assert shown["Beside the stored threshold"].head == ["AUPRC", "sensitivity at 0.9 specificity"]
    tests = shown["Tests against onnx-fp32, each image counted for itself"]
    assert tests.rows == [("onnx-int8", [("3", ""), ("4", ""), ("0.727", ""), ("below 0.001", "")])]
    assert "Beside the stored threshold" not in [section.title for section in sections(found)]  # a terminal is narrow
