"""One epoch on real radiographs: enough to see that the road is open, minutes long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefm.distill import distill
from edgefm.settings import load_recipe


@pytest.mark.slow
def test_a_mobile_student_learns_real_radiographs_in_one_epoch(tmp_path: Path, real_data: Path) -> None:
    out = distill(
        real_data / "teachers" / "densenet121_cxr",
        "mobile",
        real_data / "cxr_pneumonia" / "labels.csv",
        tmp_path / "run",
        recipe=load_recipe(None, ["distill.epochs=1", "distill.views=1"]),
    )
    found = json.loads((out / "evaluation.json").read_text())
    assert found["teacher"]["auc"] > 0.99
    assert found["student"]["auc"] > 0.9
