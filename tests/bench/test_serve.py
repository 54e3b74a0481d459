"""A bundle's variant in a contender's process: its stages are its answer, its batches are its model, and a cap is a cap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm import api
from edgefm.bench import serve
from edgefm.runtime.cpu import cpu_features
from edgefm.runtime.instructions import SETS

from ..conftest import ROOT
from .conftest import MakeBundle


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)).save(file)
    return file


@pytest.mark.parametrize("variant", ["onnx-fp32", "openvino-fp32"])
def test_its_stages_are_its_answer_and_its_batches_its_model(make_bundle: MakeBundle, picture: Path, variant: str):
    pytest.importorskip("openvino")
    engine = variant.partition("-")[0]
    path = str(make_bundle("multiclass", variants=(variant,)))
    work = serve.bundle(path=path, variant=variant, stored=variant, engine=engine, image=str(picture), threads=1)
    value = None
    for stage in work.stages:
        value = stage(value)
    answer = work.answer()
    assert value.probabilities == answer.probabilities  # type: ignore[union-attr, attr-defined]
    assert value.label == answer.label  # type: ignore[union-attr, attr-defined]
    assert work.batch is not None
    many = work.batch(3, 1)()["logits"]  # type: ignore[index]
    assert many == pytest.approx(np.repeat(work.model()["logits"], 3, axis=0), abs=1e-4)  # type: ignore[index]


def test_the_command_measures_stages_and_throughput_and_says_where_energy_is_not_readable(
    make_bundle: MakeBundle, monkeypatch, tmp_path: Path
):
    from edgefm.bench import energy

    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    monkeypatch.setattr(energy, "SUPPLIES", tmp_path / "none")
    found = api.bench((str(make_bundle(variants=("onnx-fp32",))),), runs=2, threads=1, throughput=True)
    (only,) = found["contenders"]
    assert all(taken > 0 for taken in only["stages"].values())
    assert [each["batch"] for each in only["throughput"]] == [1, 4, 16]
    assert only["peak_mib"] >= only["start"]["first"]["peak_mib"] / 2
    assert found["energy"] == "not readable here"
    assert found["noise"] == {"share": found["noise"]["share"], "contenders": 1, "processes": 2}
    assert found["device"] is None
    assert only["answer"]["stated"] is None  # two runs have no interval


@pytest.mark.skipif(not cpu_features()["avx512f"], reason="there is nothing to cap")
def test_both_variables_together_keep_openvino_below_avx512(make_bundle: MakeBundle, picture: Path):
    """What `profile.py` says of OpenVINO; if this fails with a new version of it, the sentence is to change."""
    pytest.importorskip("openvino")
    code = """
import sys
from edgefm.runtime.session import Session
session = Session(sys.argv[1], variant="openvino-fp32", threads=1)
session.predict(sys.argv[2])
model = session._loaded._request.get_compiled_model().get_runtime_model()
print(sorted({str(node.get_rt_info()["primitiveType"].astype(str)) for node in model.get_ordered_ops()}))
"""

    def primitives(**caps: str) -> str:
        env = {name: value for name, value in os.environ.items() if name not in ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA")}
        env |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(picture.parent / f"cache{len(caps)}"), **caps}
        words = [sys.executable, "-c", code, make_bundle(variants=("openvino-fp32",)), picture]
        return subprocess.run(words, capture_output=True, text=True, env=env, check=True).stdout

    word = str(SETS["avx2"].openvino)
    assert "avx512" in primitives()
    capped = primitives(ONEDNN_MAX_CPU_ISA=word, OV_CPU_MAX_ISA=word)
    assert "avx2" in capped
    assert "avx512" not in capped
