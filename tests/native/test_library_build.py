"""The library's units: only those of an instruction set hold its instructions, and they give the linker nothing to share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ..runtime.test_preprocess_build import flags_of, instructions, is_newer


@pytest.fixture(scope="module")
def units(library: Path, root: Path) -> dict[Path, list[str]]:
    """The object file of each unit, and the unit's own flags."""
    if shutil.which("objdump") is None or shutil.which("nm") is None:
        pytest.skip("no objdump and nm here")
    _, own = flags_of(root / "csrc" / "flags.txt")
    objects = {library / unit.removeprefix("csrc/").replace(".cpp", ".o"): flags for unit, flags in own.items()}
    found = {path: flags for path, flags in objects.items() if path.exists()}
    assert len(found) > 20
    return found


def test_units_without_flags_of_their_own_hold_no_newer_instruction(units):
    for path in (path for path, flags in units.items() if not flags):
        found = [instruction for instruction in instructions(path) if is_newer(instruction)]
        assert found == [], f"{path.name}: {found[:3]}"


def test_no_compiler_may_fuse_what_the_code_does_not(root):
    """Its own rounding on each instruction set would be other bits."""
    assert "-ffp-contract=off" in flags_of(root / "csrc" / "flags.txt")[0]


def test_units_of_an_instruction_set_define_only_what_is_named_after_it(units):
    for path in (path for path, flags in units.items() if flags):
        lines = subprocess.run(["nm", "--defined-only", "-C", path], capture_output=True, text=True, check=True).stdout
        shared = [line.split(maxsplit=2)[2] for line in lines.splitlines() if line.split()[1] in "TWVBDRuvw"]
        isa = path.stem.partition("_")[2]  # preprocess_avx2, attention_avx512_vnni, sha256_ni
        assert shared, path.name
        assert all(isa in name and name.startswith("edgefm::") for name in shared), f"{path.name}: {shared}"


def test_the_flags_list_every_unit_and_nothing_else(root):
    _, own = flags_of(root / "csrc" / "flags.txt")
    there = {str(path.relative_to(root)) for folder in (".", "isa") for path in (root / "csrc" / folder).glob("*.cpp")}
    assert set(own) == there
