"""Peak memory is the process's own."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgefm.bench import memory

CODE = "from edgefm.bench.memory import peak_mib; {}; print(peak_mib())"


def peak_of(statement: str) -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_what_was_used_and_given_back_counts():
    assert peak_of("del_me = bytearray(100 * 2**20); del del_me") - peak_of("pass") > 90


def test_a_large_parent_does_not_make_its_child_large():
    held = np.ones(300 * 2**17)  # 300 MiB
    assert memory.peak_mib() > 300
    assert peak_of("pass") < 100
    assert held[-1] == 1


def test_without_proc_the_kernels_other_count_serves(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    assert memory.peak_mib() == round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
