"""Input contracts that no implementation could follow are refused where they are made."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from edgefm.spec.preprocess import Preprocess


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"channels": 1},  # with three means
        {"size": 0},
        {"size": 8193, "resize_to": 8193},
        {"resize_to": 223},
        {"filter": "lanczos"},
        {"resize": "longer"},
        {"window16": [5.0, 5.0]},
        {"window16": [9.0, 5.0]},
        {"window16": [0.0, 2e6]},
        {"window16": [0.0]},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, 1e7]},
        {"std": [0.5, 0.5, 0.0]},
        {"std": [0.5, 0.5, -1.0]},
        {"std": [0.5, 0.5, 1e-9]},
        {"crop": 5},
    ],
    ids=str,
)
def test_a_contract_that_cannot_be_followed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(change, Preprocess)


@pytest.mark.parametrize(
    "change",
    [
        {"window16": (math.nan, 5.0)},
        {"window16": (0.0, math.inf)},
        {"mean": (math.nan, 0.0, 0.0)},
        {"std": (1.0, 1.0, math.nan)},
    ],
)
def test_a_number_that_is_none_is_refused_in_python_too(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window16|mean"):
        Preprocess(**change)


def test_a_contract_survives_json() -> None:
    spec = Preprocess(channels=1, size=37, resize_to=38, mean=(0.5,), std=(0.25,), window16=(-3.5, 70000.0), filter="bilinear")
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Preprocess) == spec
