"""What a fresh interpreter has imported after an answer: a device needs nothing but an engine, numpy, Pillow and msgspec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import MakeBundle

TRAINING = {"torch", "triton", "timm", "transformers", "safetensors", "accelerate", "nncf", "peft"}
NOT_TO_RUN = {"yaml", "rich", "scipy", "sklearn", "onnx", "matplotlib", "pydicom", "click"}


@pytest.mark.parametrize(("variant", "other"), [("onnx-fp32", "openvino"), ("openvino-fp32", "onnxruntime")])
def test_a_prediction_imports_one_engine_and_nothing_of_the_workstation(
    make_bundle: MakeBundle, pictures: list[Path], variant: str, other: str
) -> None:
    code = (
        "import json, sys; from edgefm.runtime.session import Session\n"
        "answer = Session(sys.argv[1], variant=sys.argv[2]).predict(sys.argv[3])\n"
        "assert answer.label\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module is not None]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, make_bundle(), variant, pictures[1]], capture_output=True, text=True, check=True
    )
    imported = set(json.loads(done.stdout))
    assert imported & (TRAINING | NOT_TO_RUN | {other}) == set()
    assert "openvino_telemetry" not in imported
    assert "PIL.Image" in imported


def test_importing_the_session_imports_no_engine_and_no_pillow() -> None:
    code = "import json, sys, edgefm.runtime.session; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & (TRAINING | NOT_TO_RUN | {"PIL", "openvino", "onnxruntime"}) == set()


@pytest.mark.parametrize("variant", ["onnx-fp32", "openvino-fp32"])
def test_no_engine_leaves_an_identifier_or_telemetry_on_the_machine(
    make_bundle: MakeBundle, tmp_path: Path, variant: str
) -> None:
    code = (
        "import sys, numpy as np; from edgefm.runtime.session import Session\n"
        "Session(sys.argv[1], variant=sys.argv[2]).predict(np.zeros((4, 4), np.uint8))\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code, make_bundle(), variant], check=True, env=env)
    found = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert found <= {("cache", "edgefm")}


@pytest.mark.parametrize("largest", [20_000, 4_000])
def test_a_full_disk_costs_time_and_nothing_else(make_bundle: MakeBundle, tmp_path: Path, largest: int) -> None:
    code = (
        "import resource, sys, numpy as np; from edgefm.runtime.session import Session\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))\n"
        "for variant in ('openvino-fp32', 'openvino-fp32', None):\n"
        "    print(Session(sys.argv[1], variant=variant).predict(np.full((4, 4), 9, np.uint8)).probabilities['pneumonia'])\n"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, make_bundle()], capture_output=True, text=True, check=True, env=env)
    first, second, third = map(float, done.stdout.split())
    assert first == second
    assert abs(first - third) < 1e-5
    assert not list(tmp_path.rglob("*.partial"))
