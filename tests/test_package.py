"""`import edgefm`: tiny, and a verb is callable whether or not its room has been imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgefm

HEAVY = ("numpy", "torch", "openvino", "onnxruntime", "PIL", "msgspec", "yaml", "rich", "click", "scipy", "sklearn", "timm")


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_edgefm_imports_no_other_library():
    loaded = fresh("import sys, edgefm; print(*sys.modules)").split()
    assert not set(HEAVY) & {name.partition(".")[0] for name in loaded}
    assert not [name for name in loaded if name.startswith("edgefm.")]


@pytest.mark.parametrize("verb", edgefm.VERBS)
def test_every_verb_is_a_function_of_the_package(verb):
    assert callable(getattr(edgefm, verb))
    assert getattr(edgefm, verb).__doc__


@pytest.mark.parametrize("verb", ["adapt", "distill", "quantize", "export", "doctor", "quickstart"])
def test_a_room_that_was_imported_does_not_hide_the_verb_of_its_name(verb):
    name = f"edgefm.{verb}"
    code = f"import edgefm, {name} as room, sys; assert room is sys.modules['{name}']; print(callable({name}))"
    assert fresh(code) == "True"


def test_calling_a_room_calls_its_verb():
    code = "import edgefm, edgefm.doctor; print(edgefm.doctor()['edgefm'], edgefm.doctor.examine.__name__)"
    assert fresh(code) == f"{edgefm.__version__} examine"


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="predict"):
        edgefm.predict  # noqa: B018


def test_the_public_classes_load_on_first_use():
    assert edgefm.Session.__module__ == "edgefm.runtime.session"
    assert edgefm.open_bundle.__module__ == "edgefm.bundle.read"
    assert "Session" in dir(edgefm)
