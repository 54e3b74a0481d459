"""A training verb started by torchrun: two processes learn what one learns, and answer as one."""

from __future__ import annotations

import json
import sys

import pytest

from .conftest import DATA, Command

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "edgefm"]


@pytest.mark.slow
def test_two_processes_distil_what_one_distils(edgefm: Command):
    words = ("distill", "-t", "models.py:teacher", "--trust-remote-code", "-s", "test_vit", "-d", DATA)
    words += ("--set", "distill.epochs=2", "--set", "distill.batch=9")  # test_vit has no BatchNorm
    edgefm.done(*words, "-o", "alone")
    edgefm.words = TORCHRUN
    ended = edgefm.done(*words, "-o", "together")
    assert ended.stdout == "together\n"
    assert ended.stderr.count("2 processes share each batch") == 1
    assert ended.stderr.count("epoch 2/2") == 1
    found, wanted = (
        [json.loads(line)["loss"] for line in (edgefm.folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("together", "alone")
    )
    assert found == pytest.approx(wanted, rel=1e-2)  # in bf16, where the processor has it
    assert sorted(file.name for file in (edgefm.folder / "together").iterdir()) == sorted(
        file.name for file in (edgefm.folder / "alone").iterdir()
    )
    assert not (edgefm.folder / "together.partial").exists()
