"""The C example: built as a user would, run on the processor that is here, on older ones that are emulated, with every cap."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ..bundle.make_format1 import FIXTURE

STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
CORPUS = Path("csrc") / "fuzz" / "corpus"


@pytest.fixture(scope="module")
def example(library: Path, root: Path, tmp_path_factory) -> Path:
    """The example, linked with the shared library."""
    program = tmp_path_factory.mktemp("example") / "predict"
    source = root / "csrc" / "examples" / "predict.c"
    link = [f"-L{library}", "-ledgefm", f"-Wl,-rpath,{library}"]
    subprocess.run(["gcc", *STRICT, f"-I{root / 'csrc' / 'include'}", source, *link, "-o", program], check=True)
    return program


@pytest.fixture(scope="module")
def bundle(root: Path) -> Path:
    """The smallest native bundle; it needs no PyTorch to be made."""
    return root / CORPUS / "native-int8"


def pgm(path: Path, pixels: np.ndarray) -> Path:
    highest = 255 if pixels.dtype == np.uint8 else 65535
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(f"P5\n{pixels.shape[1]} {pixels.shape[0]}\n{highest}\n".encode() + data)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 65536, (60, 80), dtype=np.uint16)
    return pgm(tmp_path_factory.mktemp("pictures") / "noise.pgm", pixels)


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "EDGEFM_ISA"}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env={**inherited, **environment})


def answer(done: subprocess.CompletedProcess[str]) -> tuple[str, list[float]]:
    """The label with the star, and the probabilities."""
    assert done.returncode == 0, done.stderr
    lines = [line[2:].rsplit(" ", 1) for line in done.stdout.splitlines()]
    (decided,) = (line[2:].rsplit(" ", 1)[0] for line in done.stdout.splitlines() if line[0] == "*")
    return decided, [float(number) for _, number in lines]


def test_it_is_short(root):
    assert len((root / "csrc" / "examples" / "predict.c").read_text().splitlines()) <= 60


def test_it_prints_labels_and_probabilities_of_8_and_16_bits(example, bundle, tmp_path):
    eight = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (33, 70), dtype=np.uint8)
    found = answer(run(example, bundle, pgm(tmp_path / "8.pgm", eight)))
    assert found[0] in ("normal", "größer")
    assert abs(sum(found[1]) - 1) < 2e-4
    # 257 * p of 65535 is the same grey as p of 255
    sixteen = answer(run(example, bundle, pgm(tmp_path / "16.pgm", eight.astype(np.uint16) * 257)))
    assert sixteen[0] == found[0]
    assert np.abs(np.subtract(sixteen[1], found[1])).max() < 2e-3


def test_lines_of_comment_in_a_picture_are_passed_over(example, bundle, picture, tmp_path):
    head, data = b"P5\n80 60\n65535\n", picture.read_bytes()[15:]
    assert picture.read_bytes() == head + data
    for other in (
        b"P5\n# CREATOR: a program, 1 2 3\n80 60\n65535\n",
        b"P5 #\n#\n80#width\n\t60\n#\n# height\n 65535\n",
    ):
        (tmp_path / "comment.pgm").write_bytes(other + data)
        assert run(example, bundle, tmp_path / "comment.pgm").stdout == run(example, bundle, picture).stdout
    for other in (b"P5\n# no end", b"P5\n80 x 65535\n", b"P2\n80 60\n65535\n"):
        (tmp_path / "comment.pgm").write_bytes(other + data)
        assert "no PGM file" in run(example, bundle, tmp_path / "comment.pgm").stderr


def test_it_says_what_is_wrong_on_stderr(example, bundle, picture, tmp_path):
    short = tmp_path / "short.pgm"
    short.write_bytes(picture.read_bytes()[:100])
    for arguments, reason in (
        ([], "usage"),
        ([bundle, tmp_path / "none.pgm"], "cannot be opened"),
        ([bundle, bundle], "no PGM file"),
        ([bundle, short], "cut short"),
        ([tmp_path / "none.efm", picture], "none.efm does not exist"),
        ([picture, picture], "no EdgeFM bundle"),
        ([FIXTURE, picture], "no variant native-int8"),
    ):
        done = run(example, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert reason in done.stderr


def test_an_unknown_cap_is_an_error_that_names_the_known_ones(example, bundle, picture):
    done = run(example, bundle, picture, EDGEFM_ISA="sse9")
    assert done.returncode == 2
    assert "EDGEFM_ISA: unknown instruction set" in done.stderr
    assert "avx512_vnni" in done.stderr


def test_every_cap_gives_the_same_answer(example, bundle, picture):
    best = answer(run(example, bundle, picture))
    for cap in ("scalar", "sse41", "avx2", "avx_vnni", "avx512_vnni"):
        assert answer(run(example, bundle, picture, EDGEFM_ISA=cap)) == best, cap


@pytest.mark.parametrize("processor", ["Nehalem", "SandyBridge", "Haswell"])
def test_an_emulated_older_processor_meets_no_illegal_instruction_and_answers_the_same(example, bundle, picture, processor):
    if shutil.which("qemu-x86_64") is None or os.uname().machine != "x86_64":
        pytest.skip("no qemu-x86_64 here (Debian: qemu-user)")
    best = answer(run(example, bundle, picture))
    assert answer(run("qemu-x86_64", "-cpu", processor, example, bundle, picture)) == best


def test_emulated_arm_processors_answer_the_same_with_neon_and_in_plain_loops(example, root, bundle, picture, tmp_path):
    compiler = "aarch64-linux-gnu-g++"
    if shutil.which(compiler) is None or shutil.which("qemu-aarch64") is None:
        pytest.skip(f"no {compiler} or qemu-aarch64 here (Debian: g++-aarch64-linux-gnu, qemu-user)")
    subprocess.run(["make", "-s", "-C", root / "csrc", "-j2", "static", f"CXX={compiler}", f"BUILD={tmp_path}"], check=True)
    program, source = tmp_path / "predict", root / "csrc" / "examples" / "predict.c"
    link = ["-static", tmp_path / "libedgefm.a", "-lstdc++", "-lm", "-pthread"]
    gcc = compiler.replace("g++", "gcc")
    subprocess.run([gcc, *STRICT, f"-I{root / 'csrc' / 'include'}", source, *link, "-o", program], check=True)
    best = answer(run(example, bundle, picture))
    for processor in ("max", "cortex-a72"):  # with the dot product, and without it
        assert answer(run("qemu-aarch64", "-cpu", processor, program, bundle, picture)) == best


def test_the_static_library_needs_nothing_but_cs_and_cxxs_own(example, library, root, bundle, picture, tmp_path):
    program, source = tmp_path / "static", root / "csrc" / "examples" / "predict.c"
    link = [library / "libedgefm.a", "-lstdc++", "-lm", "-pthread"]
    subprocess.run(["gcc", *STRICT, f"-I{root / 'csrc' / 'include'}", source, *link, "-o", program], check=True)
    assert answer(run(program, bundle, picture)) == answer(run(example, bundle, picture))


def test_the_header_is_good_c_and_good_cxx_by_itself(root):
    for language, standard in (("c", "c99"), ("c", "c11"), ("c++", "c++17")):
        command = ["g++" if language == "c++" else "gcc", f"-std={standard}", *STRICT[1:], "-fsyntax-only", "-x", language]
        subprocess.run([*command, root / "csrc" / "include" / "edgefm.h"], check=True)


@pytest.mark.parametrize(("program", "says"), [
    ("threads", "all answers agree\n"),  # threads on one session and on several
    ("floats", "all answers agree\n"),  # rounding modes, traps and denormals of the caller
    ("fork", ""),  # sessions in a child process
])  # fmt: skip
def test_a_program_gets_the_answers_of_one_quiet_thread(library, root, bundle, tmp_path, program, says):
    source, target = root / "tests" / "native" / f"{program}.c", tmp_path / program
    link = [f"-L{library}", "-ledgefm", f"-Wl,-rpath,{library}", "-pthread", "-lm"]
    subprocess.run(["gcc", *STRICT, f"-I{root / 'csrc' / 'include'}", source, *link, "-o", target], check=True)
    done = run(target, bundle)
    assert (done.returncode, done.stdout) == (0, says), done.stderr
