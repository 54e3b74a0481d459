"""Tables that show what was measured, what is lost with its interval, and what the images do not define."""

from __future__ import annotations

import math

from edgefm.quantize.decide import Row
from edgefm.quantize.findings import Findings, evidence
from edgefm.verify.intervals import Interval

METRICS = {"auc": 1.0, "sensitivity": 1.0, "balanced_accuracy": 1.0}


def found(*rows: Row, patients: int | None = None) -> Findings:
    return Findings(n=4, where="data", patients=patients, kind="binary", rows=rows)


def test_the_table_has_a_line_per_way_to_run_and_counts_flips() -> None:
    truth = Row(name="fp32", metrics=METRICS, flips=0.0)
    row = Row(name="onnx-int8", metrics={**METRICS, "auc": 0.75, "sensitivity": math.nan}, flips=0.25)
    title, head, first, second = found(truth, row).timed({"onnx-int8": 1.26}).lines()
    assert title == "on 4 images of the 'val' split of data; fp32 is the model itself:"
    assert head.split() == ["auc", "sensitivity", "balanced", "accuracy", "flipped", "ms"]
    assert first.split() == ["fp32", "1.0000", "1.0000", "1.0000", "0", "of", "4"]
    assert second.split() == ["onnx-int8", "0.7500", "undefined", "1.0000", "1", "of", "4", "1.3"]
    assert len(head) == len(first) == len(second)


def test_what_the_images_do_not_define_is_said() -> None:
    nothing = {"auc": math.nan, "sensitivity": 1.0, "balanced_accuracy": math.nan}
    lines = found(Row(name="fp32", metrics=nothing, flips=0.0)).lines()
    assert lines[-1] == "auc, balanced accuracy: undefined on these images, so the gate cannot see it"


def test_losses_stand_beside_their_intervals() -> None:
    drops = {
        "auc": Interval(0.00123, -0.0004, 0.0031),
        "balanced_accuracy": Interval(math.nan, math.nan, math.nan),
        "sensitivity": Interval(0.25, 0.0, 0.5),
        "flips": Interval(0.25, math.nan, math.nan),
    }
    findings = found(
        Row(name="fp32", metrics=METRICS, flips=0.0),
        Row(name="onnx-int8", metrics=METRICS, flips=0.25, drops=drops),
        patients=3,
    )
    title, head, row = findings.lines()[-3:]
    assert title == "what is lost, with 95 % intervals (paired bootstrap over 3 patients):"
    assert head.split() == ["auc", "balanced", "accuracy", "flips"]
    assert row.split() == ["onnx-int8", "0.0012", "[-0.0004,", "0.0031]", "undefined", "0.2500"]


def test_evidence_holds_values_and_ends_and_nothing_undefined() -> None:
    drops = {
        "auc": Interval(0.1, 0.0, 0.2),
        "sensitivity": Interval(0.1, math.nan, math.nan),
        "flips": Interval(0.25, 0.1, 0.4),
    }
    assert evidence(Row(name="x", metrics={}, flips=0.25, drops=drops)) == {
        "auc_drop": 0.1,
        "auc_drop_low": 0.0,
        "auc_drop_high": 0.2,
        "sensitivity_drop": 0.1,
        "flips": 0.25,
        "flips_low": 0.1,
        "flips_high": 0.4,
    }
