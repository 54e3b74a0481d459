"""`edgefm verify` as a user calls it: on a device without torch, against the model it came from, and with what is wrong."""

from __future__ import annotations

import json
import sys
import zipfile

from edgefm.data import load_data

from .conftest import DATA


def test_every_variant_is_measured_on_a_device_without_the_workstations_libraries(copied):
    absent = ["torch", "timm", "transformers", "triton", "nncf", "onnx", "sklearn", "scipy"]
    words = ["edgefm", "verify", "model.efm", "-d", DATA, "-o", "proof", "--json"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); sys.argv = {words}"
    code += "; from edgefm.__main__ import main; sys.exit(main())"
    copied.words = [sys.executable, "-c", code]
    found = json.loads(copied.done().stdout)
    names = {each["name"] for each in found["variants"]} - {"openvino-bf16"}
    assert names == {"openvino-fp32", "openvino-int8", "onnx-fp32", "onnx-int8"}
    assert found["reference"] in ("openvino-fp32", "onnx-fp32")
    assert found["data"]["images"] == len(load_data(DATA).of("test"))
    assert found["parity"]["passed"]
    assert json.loads((copied.folder / "proof" / "report.json").read_text()) == found
    assert "| onnx-int8 |" in (copied.folder / "proof" / "report.md").read_text()


def test_the_bundle_answers_as_the_student_it_came_from(copied):
    text = copied.done("verify", "model.efm", "-d", DATA, "--against", "student", "-o", "proof", code=3).stdout
    found = json.loads((copied.folder / "proof" / "report.json").read_text())
    assert found["reference"] == "test_efficientnet: torch"
    full = [each for each in found["variants"] if each["precision"] == "fp32" and not each["reference"]]
    assert len(full) == 2
    for each in full:
        assert each["largest_difference"] < 1e-3
        assert each["flips"]["count"] == 0
    assert "Difference from test_efficientnet: torch" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_gate_says_pass_or_refused_by_its_exit_code_and_seals_what_it_found(copied):
    words = ("verify", "model.efm", "-d", DATA, "--against", "student")
    refused = copied(*words, "--json")
    assert refused.returncode == 3, refused.stderr  # a few images show nothing
    found = json.loads(refused.stdout)["gate"]
    assert not found["passed"]
    assert any("sensitivity may be worse by" in reason for reason in found["reasons"])
    (copied.folder / "gate.yaml").write_text(
        "auc: null\nbalanced_accuracy: null\nsensitivity: null\nspecificity: null\ncalibration_slope: null\nflips: 1\n"
    )
    before = copied.done("inspect", "model.efm", "--json").stdout
    text = copied.done(*words, "--gate", "gate.yaml", "--seal").stdout
    assert "THE GATE SAYS PASS. Shown at 2.5 % (one-sided): worse than test_efficientnet: torch by less" in text
    assert json.loads(copied.done("inspect", "model.efm", "--json").stdout)["id"] == json.loads(before)["id"]
    with zipfile.ZipFile(copied.folder / "model.efm") as archive:
        (sealed,) = (name for name in archive.namelist() if name.startswith("evidence/verify-"))
        assert json.loads(archive.read(sealed))["gate"]["margins"] == {"flips": 1.0}
    again = copied(*words, "--gate", "gate.yaml", "--seal")
    assert again.returncode == 2
    assert "already" in again.stderr
    asked = copied("verify", "model.efm", "-d", "images", "--split", "all", "--gate", "gate.yaml")  # no labels: decisions only
    assert asked.returncode in (0, 3), asked.stderr


def test_what_cannot_be_measured_is_said_in_a_line(copied):
    for words, said in (
        (("-d", "nowhere.csv"), "there is no data at nowhere.csv"),
        (("-d", "images", "--split", "tset"), "'tset' is not one of 'test', 'val'"),
        (("-d", DATA, "--against", "nothing.efm"), "nothing.efm"),
        (("-d", DATA, "-o", "images/0.png"), "is a file"),
        (("-d", DATA, "--set", "data.positve=x"), "data.positve"),
        (("-d", DATA, "--gate", "nothing.yaml"), "the gate nothing.yaml cannot be read"),
    ):
        ended = copied("verify", "model.efm", *words)
        assert ended.returncode == 2, ended.stderr
        assert said in ended.stderr.splitlines()[-1]
        assert ended.stdout == ""
