"""What a device install costs: megabytes on disk, and milliseconds until `edgefm --help` and `import edgefm` are done.

Not the time to an answer (`first_answer.py`). Makes a fresh environment, so pip must reach its packages.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parents[1]
RUNS = 20


def megabytes(folder: Path) -> float:
    """Size of all files below, 10^6 bytes."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6, 1)


def caller(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "device")
        venv.create(home, with_pip=True)
        python, packages = home / "bin" / "python", next(home.glob("lib/python*/site-packages"))
        empty = megabytes(packages)
        sizes = {}
        for extra in ("", "[onnx]", "[openvino,onnx]"):
            # Not editable and not compiled to .pyc by pip, as it is on a device before first use.
            install = [str(python), "-m", "pip", "install", "-q", "--no-compile", f"{ROOT}{extra}"]
            subprocess.run(install, check=True)
            sizes[f"edgefm{extra}"] = round(megabytes(packages) - empty, 1)
        timings = measure.alternate(
            {
                "python -c pass": caller([str(python), "-c", "pass"]),
                "import edgefm": caller([str(python), "-c", "import edgefm"]),
                "edgefm --help": caller([str(home / "bin" / "edgefm"), "--help"]),
                "edgefm --version": caller([str(home / "bin" / "edgefm"), "--version"]),
            },
            runs=RUNS,
        )
    milliseconds = {name: timing._asdict() for name, timing in timings.items()}
    measure.save("start_up", {"megabytes": sizes, "milliseconds": milliseconds, "python": sys.version.split()[0]})


if __name__ == "__main__":
    main()
