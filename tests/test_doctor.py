"""doctor finds what is there, and for what is missing the line that gets it."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest

from edgefm.cli import verb_command
from edgefm.doctor import describe, examine, extras
from edgefm.errors import InputError

doctor = import_module("edgefm.doctor")  # `from edgefm import doctor` may be the verb


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)


def test_everything_it_finds_is_plain_json():
    assert json.loads(json.dumps(examine())) == examine()


def test_each_training_kernel_has_its_implementation_and_the_reason(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delenv("EDGEFM_KERNELS", raising=False)
    found = examine()
    assert {each["backend"] for each in found["kernels"].values()} <= {"cuda", "triton", "cpu", "reference"}
    assert any(line.split()[0] == "kernel" and "attention_kl" in line for line in describe(found))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert examine()["kernels"] == {}


def test_kernels_that_cannot_be_had_are_told_and_the_rest_is_found_all_the_same(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("EDGEFM_KERNELS", "bogus")
    lines = describe(examine())
    assert any(line.startswith("kernel") and "attention: none (EDGEFM_KERNELS names bogus" in line for line in lines)
    assert any(line.startswith("processor") for line in lines)


def test_tuning_without_a_card_says_what_it_needs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("here is one")
    assert examine()["blocks"] is None
    with pytest.raises(InputError, match="nothing to tune"):
        doctor.tune_kernels()


def test_blocks_that_were_measured_are_counted_and_else_the_line_that_measures_them_is_told():
    found = examine()
    assert any(line.split()[0] == "blocks" and "7 measured" in line for line in describe(found | {"blocks": {"measured": 7}}))
    assert any("edgefm doctor --tune" in line for line in describe(found | {"blocks": {"measured": 0}}))


def test_a_machine_without_an_engine_is_told_the_smallest_way_to_one(nothing_installed):
    found = examine()
    assert found["can_run"] is False
    assert describe(found)[-1] == "No engine is installed: pip install 'edgefm[onnx]' is the smallest."
    assert found["engines"]["openvino"]["do"] == "pip install 'edgefm[openvino]'"


def test_an_engine_that_does_not_load_is_not_called_present(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = doctor._onnxruntime()
    assert engine["version"] is None
    assert "does not load" in engine["do"]


def test_a_missing_extra_names_its_libraries_and_its_pip_line(nothing_installed, monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ['pydicom>=3; extra == "dicom"', "numpy>=1"])
    found = {name: doctor._extra(name, wanted) for name, wanted in extras().items()}
    assert found["dicom"]["missing"] == ["pydicom"]
    assert found["dicom"]["do"] == "pip install 'edgefm[dicom]'"


def test_a_checkout_that_pip_does_not_know_has_no_extras(monkeypatch):
    def unknown(name):
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", unknown)
    assert extras() == {}
    assert any("not installed by pip" in line for line in describe(examine()))


def test_a_missing_compiled_module_says_why_and_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgefm._native", None)
    monkeypatch.delattr("edgefm._native", raising=False)
    found = doctor._native()
    assert found["present"] is False
    assert found["why"]
    assert "C++ compiler" in found["do"]


def test_the_help_of_doctor_needs_no_engine():
    assert verb_command("doctor").params
