"""The verb `adapt` as a user calls it: stopped and taken up, on a full disk, and what comes after it on the road."""

from __future__ import annotations

import json

import pytest

from .conftest import DATA, Command
from .test_disk import line_of, small_files
from .test_interrupt import stopped

ADAPT = ("adapt", "models.py:teacher", "--trust-remote-code", "-d", DATA)
SHORT = {"linear": (), "full": ("--set", "adapt.epochs=3", "--set", "adapt.views=1")}


@pytest.mark.parametrize(("method", "moment"), [("linear", "features of"), ("full", "epoch 1/3")])
def test_a_stopped_run_leaves_nothing_under_its_name_and_goes_on(edgefm: Command, method: str, moment: str):
    words = (*ADAPT, "--method", method, *SHORT[method], "-o", "out")
    line = stopped(edgefm.interrupted(*words, after=moment))
    assert "--resume goes on" in line
    assert not (edgefm.folder / "out").exists()
    ended = edgefm.done(*words, "--resume")
    assert method == "linear" or "going on after epoch" in ended.stderr


@pytest.mark.parametrize("method", ["linear", "full"])
def test_a_full_disk_ends_in_one_line_and_no_output(edgefm: Command, method: str):
    line = line_of(edgefm(*ADAPT, "--method", method, *SHORT[method], "-o", "out", preexec_fn=small_files))
    assert "cannot be written" in line
    assert not (edgefm.folder / "out").exists()


def test_what_it_makes_is_a_model_of_every_other_verb(edgefm: Command):
    found = json.loads(edgefm.done(*ADAPT, "-o", "runs/teacher", "--json").stdout)
    assert {"out", "files"} == set(found)
    student = ("-s", "test_vit", "--set", "distill.epochs=1", "--set", "distill.views=1")
    edgefm.done("distill", "-t", "runs/teacher", "-d", DATA, "-o", "runs/student", *student)
    edgefm.done("export", "runs/teacher", "-o", "teacher.efm")
    lineage = json.loads(edgefm.done("inspect", "teacher.efm", "--json").stdout)["lineage"]
    assert [each["role"] for each in lineage] == ["model", "model", "data"]
    assert "layer1.0" in edgefm.done("inspect", "runs/teacher", "--taps").stdout


def test_a_method_that_is_not_there_is_answered_with_those_that_are(edgefm: Command):
    line = line_of(edgefm(*ADAPT, "--method", "dora", "-o", "out"))
    assert "'dora' is not one of 'linear', 'lora', 'qlora', 'full'" in line
