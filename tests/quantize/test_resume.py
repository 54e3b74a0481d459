"""A search that was stopped, by kill -9 too, goes on: no trial measured twice, no minute given twice, no other run's trials."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.quantize import quantize, search

from .planted import RECIPE, planted
from .test_search import done, with_gate

pytest.importorskip("nncf")


def stopped(data: Path, out: Path, moment: str, kind: str = "bias") -> Path:
    """A run stopped by Ctrl-C when it says a line that begins with `moment`; its working folder."""

    def stop(line: str) -> None:
        if line.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(planted(kind), data, out, recipe=RECIPE, report=stop)
    return out.with_name(out.name + ".partial")


KILLED = """
import os, signal, sys
from tests.quantize.planted import RECIPE, planted
from edgefm.quantize import quantize

def report(line):
    if line.startswith({moment!r}):
        os.kill(os.getpid(), signal.SIGKILL)

quantize(planted("logits"), {data!r}, {out!r}, recipe=RECIPE, report=report)
"""


@pytest.mark.parametrize("moment", ["the best so far is kept", "2 layers in float", "logits refitted"])
def test_what_was_found_before_kill_9_is_there_and_is_taken_up(
    moment: str, root: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.efm"
    code = KILLED.format(moment=moment, data=str(pictures), out=str(out))
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    partial = tmp_path / "model.efm.partial"
    with open_bundle(partial / "best.efm") as bundle:
        assert bundle.manifest.refused is not None
        assert bundle.manifest.refused.startswith("the search was not finished; the best so far (")
        assert [variant.name for variant in bundle.manifest.variants] == ["onnx-fp32", "onnx-int8"]
    measured = {path.stem for path in (partial / "trials").glob("*.npz")}

    def once(make: Callable[..., Any], trial: str) -> Callable[..., Any]:
        """`make`, unless it would find what was found before."""

        def only_new(*arguments: object, **options: bool) -> Any:
            assert trial not in measured
            return make(*arguments, **options)

        return only_new

    monkeypatch.setattr(search, "quantize_onnx", once(search.quantize_onnx, "int8"))
    monkeypatch.setattr(search, "rank", once(search.rank, "2-layers-in-float"))
    monkeypatch.setattr(search, "folded", once(search.folded, "logits-refitted"))
    _, found, said = done(planted("logits"), pictures, out, resume=True)
    assert {line.partition(":")[0].replace(" ", "-") for line in said if "taken up again" in line} == measured
    assert found["kept"] == "logits refitted"
    monkeypatch.undo()
    done(planted("logits"), pictures, tmp_path / "other.efm")
    with open_bundle(out) as one, open_bundle(tmp_path / "other.efm") as other:
        assert one.id == other.id


def test_minutes_spent_before_a_stop_are_not_given_again(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.efm"
    partial = stopped(pictures, out, "biases corrected: ", "outlier")
    assert 0 < float((partial / "seconds").read_text()) < 60 * RECIPE.quantize.minutes
    (partial / "seconds").write_text(f"{60 * RECIPE.quantize.minutes}")
    manifest, found, said = done(planted("outlier"), pictures, out, resume=True)
    assert [each["name"] for each in found["trials"]] == ["int8", "biases corrected"]  # what was measured stays
    assert "15.0 of them were spent before the run was stopped" in said
    assert any("15 minutes are over before the trial '1 layer in float'" in line for line in said)
    assert manifest.refused is not None


def test_a_run_of_other_settings_is_not_taken_up_and_without_resume_starts_over(pictures: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "model.efm", planted("bias")
    partial = stopped(pictures, out, "the best so far is kept")
    assert (partial / "best.efm").exists()
    others = [
        (model, with_gate(max_drop=0.1)),
        (dataclasses.replace(model, preprocess=replace(model.preprocess, mean=(0.01,))), RECIPE),
        (dataclasses.replace(model, task=replace(model.task, thresholds=(0.4,))), RECIPE),
    ]
    for other, recipe in others:
        with pytest.raises(InputError, match=r"belongs to a run with another .* without --resume"):
            quantize(other, pictures, out, recipe=recipe, resume=True, report=lambda line: None)
        assert (partial / "best.efm").exists()
    done(model, pictures, out, with_gate(minutes=1.0), resume=True)
    _, _, said = done(planted("bias"), pictures, out, force=True)
    assert not any("taken up again" in line for line in said)
