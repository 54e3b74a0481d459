"""The GPU benchmarks run to their end without a card, keep nothing there, and judge by the ratios alone."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import warnings

import pytest
import torch

ROWS = ("gpu_lora", "gpu_attention_kl", "gpu_attention", "gpu_cuda")


@pytest.fixture
def script(root, monkeypatch):
    """A script of the folder by its name, as a module."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def run(script, tmp_path):
    """A run as if there were a card that copies 1,000 bytes a second and does 1e6 operations."""
    measure = script("gpu_measure")
    asked = argparse.Namespace(device="cpu", quick=True, minutes=1.0, out=tmp_path / "found.json")
    made = measure.Run(asked, measure.Clock("cpu"))
    made.card, made.rate = True, measure.Rates(1e3, 1e6)
    return made


def results(root):
    return {file.name: file.read_bytes() for file in (root / "benchmarks" / "results").glob("gpu_*.json")}


def front_door(root, *options):
    command = [sys.executable, str(root / "benchmarks" / "gpu_kernels.py"), "--device", "cpu", "--quick", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def test_every_row_runs_to_its_end_on_a_processor_and_no_result_is_touched(root):
    for needed in ("triton", "peft", "bitsandbytes"):
        pytest.importorskip(needed)
    before = results(root)
    done = front_door(root)
    assert done.returncode == 0, done.stderr[-3000:]
    table = done.stdout.rpartition("\n\nLoRA layers")[2]
    assert table.count("ran to its end") == table.count("at least: ") == len(ROWS)
    assert "times as called" not in table
    assert "not measured" not in table
    assert not [line for line in done.stdout.splitlines() if "Error: " in line]  # a contender that fails says why
    assert results(root) == before


def test_after_its_minutes_nothing_is_started_and_each_row_says_so(root):
    done = front_door(root, "--minutes", "0")
    assert done.returncode == 0
    assert done.stdout.count("not measured: the time was up") == len(ROWS)
    assert all(f"({name}.py)" in done.stdout for name in ROWS)
    assert "==" not in done.stdout


def test_without_a_card_none_is_pretended(script):
    if torch.cuda.is_available():
        pytest.skip("here is one")
    with pytest.raises(SystemExit, match="no NVIDIA card here: --device cpu is a dry run"):
        script("gpu_measure").Clock("cuda")


def test_a_script_that_runs_out_of_time_names_what_it_left(run):
    assert run.on("first")
    run.end = 0.0
    assert not run.on("second")
    run.save()
    assert not run.out.exists()  # nothing was measured: what was measured before stays
    run.save(rows=[1])
    found = json.loads(run.out.read_text())
    assert (found["rows"], found["not_measured"]) == ([1], ["second"])
    assert found["options"] == ["--quick"]


def test_a_goal_is_met_if_both_times_reach_it(run, script):
    def times(ours, peer):
        return {name: script("gpu_measure").timing([each]) for name, each in (("EdgeFM", ours), ("PEFT", peer))}

    run.goal("row", "PEFT", 1.5, times(2.0, 3.0), times(1.0, 1.499))
    run.goal("row", "PEFT", 1.5, times(2.0, 3.0), {})
    run.goal("row", "PEFT", 1.5, {}, {})
    assert [goal["met"] for goal in run.goals] == [False, True, None]
    assert run.goals[0]["ratios"] == {"as called": 1.5, "on the card": 1.499}


def test_the_roofline_is_the_slower_of_bytes_and_operations(run, script):
    ours = script("gpu_measure").timing([4000.0])
    assert run.roofline(2000, 1000, ours) == {"bytes": 2000, "operations": 1000, "ms": 2000.0, "share": 0.5}
    assert run.roofline(10, 3e6, None)["ms"] == 3000.0


def test_of_the_divergence_in_pairs_flex_attention_can_do_all(script):
    kl = script("gpu_attention_kl")
    of = [x.detach() for x in kl.made((2, 37, 3, 3, "pairs"), "cpu", torch.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled
        found = kl.flexible(*of, "pairs")
    torch.testing.assert_close(found, kl.eager(*of, "pairs"))
