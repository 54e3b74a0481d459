"""How the C++ module is built: no unit uses an instruction set that is not its own, and no compiler is no obstacle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

NEWER = {"tzcnt", "lzcnt", "popcnt", "andn", "bzhi", "sarx", "shlx", "shrx", "rorx", "mulx", "adcx", "adox"}  # and every VEX
BASELINE = ["csrc/cpu_features.cpp", "csrc/png.cpp", "csrc/preprocess.cpp", "csrc/isa/preprocess_scalar.cpp"]


@pytest.fixture(scope="module")
def objects(root, tmp_path_factory):
    """Every unit but the bindings, compiled with the flags of csrc/flags.txt."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None or shutil.which("objdump") is None or shutil.which("nm") is None:
        pytest.skip("no C++ compiler with objdump and nm here")
    if sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("the instruction sets compared are those of x86-64")
    flags, own = flags_of(root / "csrc" / "flags.txt")
    folder = tmp_path_factory.mktemp("objects")
    made = {}
    for unit in [*BASELINE, "csrc/isa/preprocess_avx2.cpp", "csrc/isa/preprocess_avx512.cpp"]:
        made[unit] = folder / (Path(unit).stem + ".o")
        subprocess.run([compiler, *flags, "-fPIC", "-Icsrc", *own[unit], "-c", unit, "-o", made[unit]], cwd=root, check=True)
    return made


def flags_of(listed: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The flags of every unit, and for each unit its own."""
    lines = [line.split() for line in listed.read_text().splitlines() if line.strip() and line[0] != "#"]
    flags = next(words[1:] for words in lines if words[0] == "flags")
    return flags, {f"csrc/{words[1]}": words[2:] for words in lines if words[0] != "flags"}


def instructions(path: Path) -> list[str]:
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    return [line.split("\t", 1)[1] for line in text.splitlines() if "\t" in line]


def is_newer(instruction: str) -> bool:
    name = instruction.split()[0]
    return name.startswith("v") or name in NEWER or "%ymm" in instruction or "%zmm" in instruction


def test_the_baseline_units_hold_no_newer_instruction(objects):
    for unit in BASELINE:
        found = [instruction for instruction in instructions(objects[unit]) if is_newer(instruction)]
        assert instructions(objects[unit])
        assert found == [], f"{unit}: {found[:3]}"


def test_each_newer_unit_uses_its_own_instructions(objects):
    avx2, avx512 = (" ".join(instructions(objects[f"csrc/isa/preprocess_{isa}.cpp"])) for isa in ("avx2", "avx512"))
    assert "vfmadd" not in avx2 + avx512, "products are rounded before they are added, as without FMA"
    assert "%ymm" in avx2
    assert "%zmm" not in avx2
    assert not re.search(r"%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]", avx2), "AVX-512VL in the AVX2 unit"
    assert "%zmm" in avx512


def test_a_newer_unit_shares_nothing_but_its_table_with_the_linker(objects):
    for unit, path in objects.items():
        if unit in BASELINE and "isa/" not in unit:
            continue
        lines = subprocess.run(
            ["nm", "--defined-only", "-C", path], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        shared = [line.split(maxsplit=2)[2] for line in lines if line.split()[1].isupper() or line.split()[1] in "vw"]
        assert shared == [f"edgefm::{Path(unit).stem}"]


def test_without_a_compiler_the_build_succeeds_and_says_so(root, tmp_path):
    environment = {**os.environ, "CC": "no-such-compiler", "CXX": "no-such-compiler"}
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the C++ module was not built; EdgeFM works without it" in done.stderr
    assert not list(tmp_path.rglob("_native*.so"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_where_the_compiler_brings_no_sanitizer_the_run_is_skipped_with_a_reason(root, tmp_path):
    fake = tmp_path / "g++"
    fake.write_text('#!/bin/sh\necho "${1#*=}"\n')  # what g++ -print-file-name says of a library that it has not
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable}
    done = subprocess.run(["bash", "csrc/sanitize.sh"], cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        0,
        "sanitize: skipped, g++ brings no libasan.so here (Debian: apt install g++)\n",
    )


@pytest.mark.parametrize(("processor", "isa"), [("Nehalem", "scalar"), ("SandyBridge", "scalar"), ("Haswell", "avx2")])
def test_an_emulated_older_processor_meets_no_illegal_instruction(root, processor, isa):
    pytest.importorskip("edgefm._native", reason="the C++ module is not built")
    if shutil.which("qemu-x86_64") is None or sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("no qemu-x86_64 here (Debian: qemu-user)")
    code = (
        "import numpy as np\n"
        "from edgefm.runtime.cpu import cpu_features\n"
        "from edgefm.runtime.preprocess import Preprocessor, prepare\n"
        "from edgefm.spec.preprocess import Preprocess\n"
        "preprocessor = Preprocessor(Preprocess(size=32, resize_to=40, window16=(99.0, 60000.0)))\n"
        "pixels = np.random.default_rng(0).integers(0, 65536, (70, 90, 3), dtype=np.uint16)\n"
        "assert abs(preprocessor(pixels) - prepare(pixels, preprocessor.spec)).max() < 1e-5\n"
        "print(preprocessor.isa, cpu_features()['avx2'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "EDGEFM_ISA"}
    command = ["qemu-x86_64", "-cpu", processor, sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [isa, str(isa != "scalar")]
