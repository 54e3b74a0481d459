"""Do the extras resolve today on every Python that EdgeFM supports? Asks pip, installs nothing.

Not a test of the libraries themselves; `make test` runs on one Python.

pip can resolve for another Python only for requirements, not for a local folder, so they are read from pyproject.toml.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13")


def requirements() -> list[str]:
    """All requirements of a full installation, without EdgeFM's references to its own extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "dev"}
    lines = [*project["dependencies"], *(line for wanted in extras.values() for line in wanted)]
    return sorted({line for line in lines if not re.match(r"edgefm\b", line)})


def main() -> int:
    wanted = requirements()
    with ThreadPoolExecutor() as pool:
        done = dict(zip(PYTHONS, pool.map(lambda python: resolve(python, wanted), PYTHONS)))
    for python, pip in done.items():
        print(f"Python {python}: {'the extras do not resolve' if pip.returncode else 'all extras resolve'}")
        if pip.returncode:
            print(pip.stderr[-2000:], file=sys.stderr)
    return int(any(pip.returncode for pip in done.values()))


def resolve(python: str, wanted: list[str]) -> subprocess.CompletedProcess[str]:
    """Ask pip whether the requirements resolve for that Python."""
    with tempfile.TemporaryDirectory() as nowhere:
        options = ["--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:", "--target", nowhere]
        command = [sys.executable, "-m", "pip", "install", *options, "--python-version", python, *wanted]
        return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
