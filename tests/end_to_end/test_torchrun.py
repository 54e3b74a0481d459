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


@pytest.mark.slow
def test_two_processes_train_adapters_as_one_does(edgefm: Command):
    words = ("-d", DATA, "--set", "distill.epochs=1", "--set", "distill.views=1")
    edgefm.done("distill", "-t", "models.py:teacher", "--trust-remote-code", "-s", "test_vit", *words, "-o", "base")
    words = ("adapt", "base", "--method", "lora", "-d", DATA, "--set", "adapt.epochs=2", "--set", "adapt.batch=9")
    words += ("--set", "adapt.lora.rank=4")
    edgefm.done(*words, "-o", "alone")
    edgefm.words = TORCHRUN
    ended = edgefm.done(*words, "-o", "together")
    assert ended.stderr.count("2 processes share each batch") == 1
    found, wanted = (
        [json.loads(line)["loss"] for line in (edgefm.folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("together", "alone")
    )
    assert found == pytest.approx(wanted, rel=1e-2)
    assert (edgefm.folder / "together" / "adapters" / "default" / "adapter_model.safetensors").exists()
