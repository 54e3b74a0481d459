"""What a search found lies on disk, whole or not at all, and only for the run that it belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgefm.errors import InputError
from edgefm.quantize.kept import Kept

IDENTITY = {"model": "a", "recipe": {"seed": 0}}
OUTPUTS = {"onnx-int8": {"logits": np.eye(2, dtype=np.float32), "embedding": np.zeros((2, 3), np.float32)}}


def graph() -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "g", [], []))


def test_a_trial_comes_back_as_it_was(tmp_path: Path) -> None:
    Kept(tmp_path, IDENTITY).store("2 layers in float", graph(), OUTPUTS)
    recalled = Kept(tmp_path, IDENTITY).recall("2 layers in float")
    assert recalled is not None
    found, outputs = recalled
    assert found == graph()
    assert outputs.keys() == OUTPUTS.keys()
    for name, value in OUTPUTS["onnx-int8"].items():
        assert np.array_equal(outputs["onnx-int8"][name], value)


def test_a_trial_that_was_not_measured_to_the_end_is_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path, IDENTITY)
    assert kept.recall("int8") is None
    kept.store("int8", graph(), OUTPUTS)
    (tmp_path / "trials" / "int8.npz").unlink()
    assert kept.recall("int8") is None


@pytest.mark.parametrize("suffix", ["onnx", "npz"])
def test_a_damaged_trial_is_named(tmp_path: Path, suffix: str) -> None:
    kept = Kept(tmp_path, IDENTITY)
    kept.store("int8", graph(), OUTPUTS)
    (tmp_path / "trials" / f"int8.{suffix}").write_bytes(b"\xff\xff half")
    with pytest.raises(InputError, match=r"int8.* is damaged .* without --resume"):
        kept.recall("int8")


def test_spent_seconds_are_kept_and_none_are_spent_at_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, IDENTITY)
    assert kept.seconds == 0
    kept.spend(12.3456)
    assert Kept(tmp_path, IDENTITY).seconds == 12.346
    (tmp_path / "seconds").write_text("half")
    with pytest.raises(InputError, match=r"seconds is damaged .* without --resume"):
        _ = kept.seconds


def test_another_run_is_not_taken_up(tmp_path: Path) -> None:
    Kept(tmp_path, IDENTITY)
    Kept(tmp_path, IDENTITY)
    with pytest.raises(InputError, match="belongs to a run with another model"):
        Kept(tmp_path, {**IDENTITY, "recipe": {"seed": 1}})
