"""The promise to every bundle that was ever written: format 1 opens, today and with every later reader."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from edgefm.bundle import open_bundle

from .make_format1 import ENTRIES, FILE_SHA256, FIXTURE, IDENTITY, MANIFEST, PREPROCESS, make


def test_the_committed_fixture_opens_and_says_what_was_put_in() -> None:
    assert sha256(FIXTURE.read_bytes()).hexdigest() == FILE_SHA256
    with open_bundle(FIXTURE) as bundle:
        assert bundle.id == IDENTITY
        assert bundle.preprocess == PREPROCESS
        assert bundle.manifest.variants == MANIFEST.variants
        assert bundle.manifest.task.labels == ("normal", "größer")
        assert bundle.names() == (
            "manifest.json",
            "card.md",
            "golden/dot-logits.npy",
            "golden/dot.npy",
            "labels.json",
            "preprocess.json",
            "variants/onnx-fp32/encoder.onnx",
            "variants/onnx-fp32/encoder.weights",
            "variants/openvino-int8/encoder.xml",
            "evidence/report.json",
        )
        for name, data in {**ENTRIES, "evidence/report.json": b"{}"}.items():
            assert bundle.view(name) == data


def test_todays_writer_still_writes_the_fixture(tmp_path: Path) -> None:
    make(tmp_path / "again.efm")
    assert (tmp_path / "again.efm").read_bytes() == FIXTURE.read_bytes()


def test_two_processes_in_two_folders_write_the_same_bytes(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    written = []
    for seed, name in (("1", "one"), ("2", "two")):
        (tmp_path / name).mkdir()
        out = tmp_path / name / f"{name}.efm"
        code = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'tests')!r}]; from bundle.make_format1 import *; "
        env = {"PYTHONHASHSEED": seed, "TZ": f"UTC{seed}"}
        subprocess.run([sys.executable, "-c", code + f"make(Path({str(out)!r}))"], check=True, cwd=tmp_path / name, env=env)
        written.append(out.read_bytes())
    assert written[0] == written[1] == FIXTURE.read_bytes()
