"""quickstart, whole, on few images: a table of what was measured, an honest verdict, and files that can be used."""

from __future__ import annotations

import json

from .conftest import DATA, Command

QUICK = ("--set", "distill.epochs=1", "--set", "distill.views=1")


def test_quickstart_ends_with_a_table_an_honest_verdict_and_files_that_work(edgefm: Command):
    loose = ("--set", "quantize.max_drop=1", "--set", "quantize.max_flips=1")
    ended = edgefm.done("quickstart", "--data", DATA, "-o", "out", *QUICK, *loose, "--json")
    found = json.loads(ended.stdout)
    names = [row["name"] for row in found["rows"]]
    assert names[0] == "teacher, torch"
    assert names[1].startswith("without teacher, ")
    assert {"student, onnx-fp32", "student, onnx-int8", "student, openvino-int8"} <= set(names)
    assert found["refused"] is None
    assert all(row["megabytes"] > 0 for row in found["rows"])
    assert all(row["milliseconds"] > 0 for row in found["rows"])
    assert found["verdict"].startswith("the gate says yes, on ")
    auc = found["rows"][0]["metrics"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert set(found["example"]["probabilities"]) == {"clear", "opacity"}
    report = json.loads((edgefm.folder / found["paths"]["report.json"]).read_text())  # the same that verify writes
    int8 = next(row for row in found["rows"] if row["name"] == "student, onnx-int8")
    (same,) = (each for each in report["variants"] if each["name"] == "onnx-int8")
    assert {name: each for name, each in same["metrics"].items() if each["value"] is not None} == int8["metrics"]
    assert "<h1>Verification of" in (edgefm.folder / found["paths"]["report.html"]).read_text()
    assert not (edgefm.folder / "out" / "verify.json").exists()
    edgefm.done("inspect", found["paths"]["model.efm"])
    edgefm.done("inspect", found["paths"]["student"], "--taps")


def test_quickstart_without_labels_says_what_needs_none(edgefm: Command):
    from .conftest import draw

    draw(edgefm.folder / "plain", 20)
    ended = edgefm.done("quickstart", "--data", "plain", "-o", "out", code=2)
    assert "edgefm distill, which needs none" in ended.stderr
