"""What a person reads of robustness: one row a model, and on a wide page one a corruption, with "-" for what is undefined."""

from __future__ import annotations

import math
from typing import Any

from edgefm.verify.robustness_table import robustness_tables


def sure(value: float) -> dict[str, float]:
    """An interval without a width."""
    return {"value": value, "low": math.nan, "high": math.nan, "undefined": 0}


FOUND: dict[str, Any] = {
    "modality": "oct",
    "images": 9,
    "clean": {"fp32": {"balanced_error": 0.1}, "int8": {"balanced_error": math.nan}},
    "corruptions": [
        {
            "name": "motion_blur",
            "severity": severity,
            "variants": {"fp32": {"balanced_error": severity / 10}, "int8": {"balanced_error": math.nan}},
        }
        for severity in range(1, 6)
    ],
    "summary": {
        "fp32": {"mean_error": sure(0.3), "increase": sure(0.2), "mce": sure(1.0)},
        "int8": {"mean_error": sure(0.4), "difference": sure(0.1)},
    },
}


def test_the_summary_has_a_column_for_what_any_model_has() -> None:
    ((title, head, rows, topic),) = robustness_tables(FOUND, everything=False)
    assert topic == "robustness"
    assert title == "Balanced error of 9 images of oct, corrupted"
    assert head == ["clean error", "mean error", "points from clean", "points from reference", "mCE"]
    assert rows == [
        ("fp32", [("0.100", ""), ("0.300", ""), ("+20.00", ""), ("-", ""), ("1.000", "")]),
        ("int8", [("-", ""), ("0.400", ""), ("-", ""), ("+10.00", ""), ("-", "")]),
    ]


def test_a_wide_page_has_the_mean_of_each_corruption() -> None:
    _, (title, head, rows, topic) = robustness_tables(FOUND, everything=True)
    assert topic == "robustness"
    assert title == "Balanced error by corruption, the mean of its severities"
    assert head == ["fp32", "int8"]
    assert rows == [("motion blur", [("0.300", ""), ("-", "")])]
