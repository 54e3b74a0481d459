"""A record of everything that a report can show, with names that a stranger chose. Not measured: numbers that read well."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

from edgefm.report.findings import Page, page

from ..bench.test_page import FOUND as BENCH
from ..verify.test_page import interval, record, variant

HOSTILE = "<script>alert('x')</script>&\"$x^2$"
IDENTITY = "0123456789abcdef"
VARIANTS = ("densenet: torch", "openvino-fp32", "openvino-int8", "onnx-int8")


def full(label: str = "ill", **fields: Any) -> dict[str, Any]:
    """The record of a passing binary bundle beside an outside reference, every optional key included.

    Args:
        label: the positive label. fields: to replace.
    """
    variants = [_variant(number, name, label) for number, name in enumerate(VARIANTS)]
    checks = [
        {"name": name, "what": what, "loss": 0.004, "worst": 0.012, "margin": 0.05, "passed": True}
        for name in VARIANTS[1:]
        for what in ("auc", "flips")
    ]
    gate = {
        "passed": True,
        "alpha": 0.025,
        "margins": {"auc": 0.05, "flips": 0.05},
        "reasons": [],
        "not_judged": [],
        "checks": checks,
    }
    found = record(
        reference=VARIANTS[0],
        variants=variants,
        between=[],
        task={"kind": "binary", "labels": ["normal", label], "thresholds": [0.31], "temperature": 1.0},
        gate=gate,
        bundle={
            "name": "lung | small",
            "id": IDENTITY,
            "refused": None,
            "bytes": {"openvino-fp32": 11_000_000, "openvino-int8": 3_100_000, "onnx-int8": 3_000_000},
            "lineage": [
                {"role": "teacher", "name": "densenet", "licence": "Apache-2.0", "sha256": "ab" * 32},
                {"role": "data", "name": "d.csv", "licence": "unknown", "sha256": None},
            ],
        },
        subgroups=[_subgroups(label)],
        robustness=_robustness(),
        cases=[
            {
                "image": "scan.png",
                "patient": "P-17",
                "label": label,
                "variant": "openvino-int8",
                "before": label,
                "after": "normal",
                "reference": [0.4, 0.6],
                "probability": [0.8, 0.2],
                "drift": 0.4,
            }
        ],
        bench=_bench(),
    )
    return found | fields


@functools.cache
def everything() -> Page:
    """The page of `full()`, drawn once."""
    return page(full())


def _variant(number: int, name: str, label: str) -> dict[str, Any]:
    auc, right = 0.96 - 0.01 * number, 0.91 - 0.01 * number
    metrics = {
        "auc": interval(auc, auc - 0.02, auc + 0.02),
        "balanced_accuracy": interval(right, right - 0.03, right + 0.03),
    }
    points = {
        "confidence": [[0.1, math.nan, 0.8 + 0.02 * number]],
        "right": [[0.12, math.nan, 0.81]],
        "low": [[0.05, math.nan, 0.7]],
        "high": [[0.2, math.nan, 0.9]],
        "images": [[90, 0, 60]],
    }
    parts = {"reliability": 0.004, "generalized_resolution": 0.15, "uncertainty": 0.2}
    own = {
        "precision": name[-4:] if number else "fp32",
        "reference": not number,
        "metrics": metrics,
        "operating": {"auprc": interval(0.97, 0.96, 0.98)},
        "calibration": {"ece": 0.03, "ece_adaptive": 0.03, "brier": parts, "reliability": points},
        "roc": {
            label: {
                "false_positive_rate": [0, 0, 0.1 + 0.01 * number, 1],
                "sensitivity": [0, 0.5, 0.95, 1],
                "sensitivity_at": [0.5, 0.5, 0.5, 0.5 if number else 0.95, 0.95, 0.95],
            }
        },
    }
    if number:
        own["difference"] = {each: interval(-0.01 * number, -0.02 * number, 0.0) for each in metrics}
        own["flips"] = {"count": number, "of": 150, "share": interval(number / 150, 0.0, 0.03)}
        own["largest_difference"] = 0.2
        own["tests"] = {"mcnemar": {"only_one": 1, "only_other": 2, "mid_p": 0.6}, "delong": {"p": 0.2}}
    return variant(name, **own)


def _subgroups(label: str) -> dict[str, Any]:
    def group(value: str, images: int, judged: bool) -> dict[str, Any]:
        return {
            "value": value,
            "images": images,
            "groups": images // 2,
            "judged": judged,
            "metrics": {
                name: {"auc": interval(0.9, 0.8, 0.95), "balanced_accuracy": interval(0.9 - images / 1e4, 0.8, 0.95)}
                for name in VARIANTS
            },
            "difference": {name: {"balanced_accuracy": interval(-0.01, -0.03, 0.01)} for name in VARIANTS[1:]},
            "flips": {name: {"count": 1, "of": images} for name in VARIANTS[1:]},
        }

    gaps = {name: {"balanced_accuracy": interval(-0.02, -0.05, 0.01)} for name in VARIANTS}
    return {
        "column": "scanner",
        "groups": [group("A", 120, True), group(label, 30, True), group("C", 3, False)],
        "worst": {name: {"balanced_accuracy": "A"} for name in VARIANTS},
        "gap": gaps,
        "gap_change": {name: gaps[name] for name in VARIANTS[1:]},
        "chi_squared": {name: {"statistic": 2.1, "df": 2, "p": 0.35} for name in VARIANTS[1:]},
    }


def _robustness() -> dict[str, Any]:
    summary = {"mean_error": interval(0.15, 0.12, 0.18), "increase": interval(0.06, 0.04, 0.08)}
    return {
        "modality": "xray",
        "images": 150,
        "seed": 0,
        "summary": dict.fromkeys(VARIANTS, summary),
        "clean": {name: {"balanced_error": 0.09} for name in VARIANTS},
        "corruptions": [
            {
                "name": name,
                "severity": level,
                "variants": {
                    each: {"balanced_error": 0.09 + 0.03 * level * (number + 1) / 2, "flips": 4 * level} for each in VARIANTS
                },
            }
            for number, name in enumerate(("gaussian_noise", "motion_blur", "jpeg"))
            for level in range(1, 6)
        ],
    }


def _bench() -> dict[str, Any]:
    found = copy.deepcopy(BENCH)
    found["bundles"] = [{"file": "lung.efm", "id": IDENTITY, "bytes": 14_000_000, "name": "lung"}]
    found["contenders"] = [each for each in found["contenders"] if not each.get("rival")]
    for each in found["contenders"]:
        each |= {"bundle": "lung.efm", "bundle_id": IDENTITY, "variant": each["name"]}
    return found
