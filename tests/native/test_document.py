"""What docs/device-maker.md says about C is true: its commands run, its code compiles, its errors are the header's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from ..documents import blocks
from .test_example import pgm

BY = "tests/native/test_document.py"


@pytest.fixture
def reader(library, root, tmp_path):
    """A folder with the project's files, a bundle and a picture."""
    for name in ("csrc", "Makefile", "build", "setup.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(root / name)
    shutil.copy(root / "csrc" / "fuzz" / "corpus" / "native-int8", tmp_path / "device.efm")
    pgm(tmp_path / "picture.pgm", np.random.Generator(np.random.PCG64(0)).integers(0, 256, (60, 80), dtype=np.uint8))
    return tmp_path


def block(language: str) -> str:
    (found,) = (each.text for each in blocks("docs/device-maker.md") if (each.by, each.language) == (BY, language))
    return found


def test_the_commands_run(reader):
    environment = {**os.environ, "PWD": str(reader)}
    done = subprocess.run(["bash", "-euc", block("sh")], cwd=reader, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\* (normal|größer) [01]\.\d{4}$", done.stdout, re.MULTILINE), done.stdout


def test_the_code_compiles(root, tmp_path):
    before = "#include <edgefm.h>\n#include <stdlib.h>\nint run(const uint16_t* pixels, int (*fail)(const char*));\n"
    function = f"int run(const uint16_t* pixels, int (*fail)(const char*)) {{\n{block('c')}return 0;\n}}\n"
    (tmp_path / "code.c").write_text(before + function)
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{root / 'csrc' / 'include'}", "-fsyntax-only"]
    subprocess.run([*command, tmp_path / "code.c"], check=True)


def test_the_errors_are_those_of_the_header(root):
    header = (root / "csrc" / "include" / "edgefm.h").read_text()
    declared = re.findall(r"^    (EDGEFM_(?:OK|ERROR_\w+)) = (\d+)", header, re.MULTILINE)
    page = (root / "docs" / "device-maker.md").read_text()
    assert [(name, number) for number, name in re.findall(r"^\| (\d+) \| `(EDGEFM_\w+)` \|", page, re.MULTILINE)] == declared
    assert len(declared) == 12
