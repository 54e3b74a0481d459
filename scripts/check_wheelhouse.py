"""An air-gapped PC, played through: install from the wheelhouse alone, then answer with a bundle. PyTorch must not be there.

Not a test of the answers themselves. Run with the workstation's Python: it makes the bundle and the image.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TEACHER = """
import timm
import torch


def model():
    torch.manual_seed(0)
    return timm.create_model("mobilenetv3_small_050", num_classes=2).eval()
"""
IMAGE = """
import numpy as np, PIL.Image, sys
PIL.Image.fromarray((np.arange(128 * 96) % 251).reshape(96, 128).astype("u1")).save(sys.argv[1])
"""
ABSENT = "import importlib.util as u, sys; sys.exit([n for n in ('torch', 'timm', 'nncf', 'onnx') if u.find_spec(n)] or 0)"


def run(*command: str | Path, **options: object) -> str:
    """The command's stdout; stops everything if it fails."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **options).stdout  # type: ignore[call-overload]


def main() -> int:
    wheelhouse = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        Path(work, "teacher.py").write_text(TEACHER)
        edgefm = Path(sys.executable).with_name("edgefm")
        run(edgefm, "export", "teacher.py:model", "-o", "model.efm", "--trust-remote-code", cwd=work)
        run(sys.executable, "-c", IMAGE, work / "image.png")

        venv.create(work / "pc", with_pip=True)
        python = work / "pc" / "bin" / "python"
        offline = ["--no-index", "--find-links", str(wheelhouse)]
        alone = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        alone["PIP_CONFIG_FILE"] = os.devnull
        run(python, "-m", "pip", "install", "-q", *offline, "edgefm[openvino,onnx,dicom]", cwd=work, env=alone)
        run(python, "-c", ABSENT)
        for variant in ("onnx-fp32", "openvino-fp32"):
            lines = run(
                work / "pc" / "bin" / "edgefm", "run", "model.efm", "image.png", "--variant", variant, "--json", cwd=work
            )
            answer = json.loads(lines)
            print(f"{variant}: {answer['label']} {answer['probabilities']}")
        print(run(work / "pc" / "bin" / "edgefm", "doctor", cwd=work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
