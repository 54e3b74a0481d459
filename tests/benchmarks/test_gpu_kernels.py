"""The GPU benchmarks run to their end without a card, keep nothing there, and judge by the ratios alone."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings

import pytest
import torch

ROWS = ("gpu_lora", "gpu_attention_kl", "gpu_attention", "gpu_cuda")


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


def test_the_exact_answers_image_by_image_are_those_of_the_whole_batch(script):
    kl = script("gpu_attention_kl")
    of = kl.made((3, 7, 2, 4, "mean"), "cpu", torch.float64)
    for mine, whole in zip(kl.exact_answers(of, "mean"), kl.step(kl.eager, of, "mean"), strict=True):
        torch.testing.assert_close(mine, whole)


def test_a_row_that_fails_is_noted_and_the_next_one_is_measured(run, capsys):
    assert run.row("first", lambda: 1 / 0) is None
    assert run.row("second", lambda: 2) == 2
    run.save(rows=[2])
    assert run.finish() == 1
    assert json.loads(run.out.read_text())["failed"] == {"first": "ZeroDivisionError: division by zero"}
    assert capsys.readouterr().err.endswith("first: ZeroDivisionError: division by zero\n")


def test_a_contender_that_fails_or_compiles_for_ever_says_why_and_the_others_run(script, monkeypatch):
    contenders = script("gpu_contenders")
    monkeypatch.setattr(contenders, "PATIENCE", 1)
    calls = {"good": lambda: 2, "bad": lambda: 1 / 0, "endless": lambda: time.sleep(30)}
    able, looked, failed = contenders.tried(calls, lambda answer: answer + 1)
    assert (list(able), looked) == (["good"], {"good": 3})
    assert failed == {"bad": "ZeroDivisionError: division by zero", "endless": "TimeoutError: not done in 1 s"}


@pytest.mark.parametrize(
    ("failing", "best"),
    [
        pytest.param({"eager", "SDPA + map"}, None, id="every peer fails"),
        pytest.param({"EdgeFM"}, "eager", id="EdgeFM fails"),
        pytest.param({"EdgeFM", "eager", "SDPA + map"}, None, id="all fail"),
    ],
)
def test_without_a_peer_or_without_edgefm_there_is_no_ratio(run, script, monkeypatch, failing, best):
    attention, said = script("gpu_attention"), script("gpu_numbers").attention("importance")
    run.card = False
    names = {"EdgeFM", "eager", "SDPA + map"}

    def fails(*given):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(attention, "contenders", lambda *_: {n: fails if n in failing else attention.plain for n in names})
    row = attention.compare(run, "importance", attention.TINY[0])
    assert row["times_best_peer"] is None
    assert (row["best_peer"] is None) == (best is None)
    assert set(row["failed"]) == failing
    assert list(run.failed) == (["importance, N = 21, EdgeFM"] if "EdgeFM" in failing else [])  # a peer's failure is no fault
    assert run.goals[0]["met"] is None
    json.dumps(row)
    assert said({"rows": [row], "device": "a card"}) == "not yet measured"


def test_a_row_without_a_captured_graph_gives_the_readme_no_ratio(script):
    def row(ours, theirs):
        return {"case": "ViT-B fc1 [1, 768] -> 3072", "times": {"edgefm": ours, "bitsandbytes + PEFT": theirs}}

    said = script("gpu_numbers").one_row
    lacking = [
        row({"eager": 1.0, "graph": None, "no graph": "why"}, {"eager": 1.0, "graph": 4.0}),
        row({"eager": 1.0, "graph": 2.0}, {"eager": 1.0, "graph": None, "no graph": "why"}),
        row("it failed", {"eager": 1.0, "graph": 4.0}),
        row({"eager": 1.0, "graph": 2.0}, "peft is not installed"),
    ]
    lacking.append({"case": "ViT-B fc1 [1, 768] -> 3072", "times": {"bitsandbytes + PEFT": {"eager": 1.0, "graph": 4.0}}})
    assert said({"rows": lacking, "device": "a card"}) == "not yet measured"
    measured = row({"eager": 1.0, "graph": 2.0}, {"eager": 1.0, "graph": 4.0})
    assert said({"rows": [*lacking, measured], "device": "a card"}).startswith("2.0 to 2.0 times (a card")


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, ""), (1, "failed, exit code 1: it is so"), (2, "failed, exit code 2: it is so"), (77, "not measured: it is so")],
)
def test_only_what_cannot_run_here_is_not_measured_anything_else_is_a_fault(script, tmp_path, monkeypatch, code, expected):
    door, found = script("gpu_kernels"), {"device": "a card", "goals": [], "failed": {}, "not_measured": [], "cases": []}
    (tmp_path / "gpu_fake.py").write_text(
        f"import pathlib, sys\npathlib.Path(sys.argv[-1]).write_text({json.dumps(found)!r})\n"
        f"print('it is so\\n', file=sys.stderr)\nsys.exit({code})\n"
    )
    monkeypatch.setattr(door, "__file__", str(tmp_path / "gpu_kernels.py"))
    row, asked = door.Row("what", "gpu_fake", "least"), argparse.Namespace(device="cpu", quick=False)
    outcome = door.measured(row, asked, tmp_path, 1.0)
    assert outcome == door.Outcome(found, expected)
    assert door.said(row, outcome, card=True)[-1].strip() == (expected or "on: a card")


def result(card, *names, peer=1.0):
    return {"device": card, "cases": [{"case": name, "step": {"EdgeFM": 1.0, "PEFT": peer}} for name in names]}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(result("H200", "a", "b"), result("H200", "a", "b", "c"), "", id="more rows"),
        pytest.param(result("H200", "a", "b"), result("H200", "b"), "rows that x.2.json has not: a", id="fewer rows"),
        pytest.param(result("H200", "a"), result("T4", "a"), "it is of H200; x.2.json is of T4", id="another card"),
        pytest.param(result("H200", "a"), result("H200", "a", peer="not installed"), "not: a", id="a row without its peer"),
        pytest.param(
            {"device": "H200", "rows": 12600, "cases": {"a": {"ms": {"edgefm": 1.0, "eager": 2.0}}}},
            {"device": "H200", "cases": {}},
            "not: a",
            id="rows by name",
        ),
        pytest.param(
            {"card": "H200", "rows": [{"job": "bias", "shape": [1, 2], "contenders": {"EdgeFM": {}, "eager": {}}}]},
            {"device": "H200", "rows": []},
            "not: bias [1, 2]",
            id="rows by job",
        ),
        pytest.param(result("H200"), {"device": "H200", "cases": [{"case": "a", "skipped": "why"}]}, "", id="none before"),
    ],
)
def test_a_result_is_replaced_only_by_one_of_the_same_card_with_all_its_rows(script, tmp_path, old, new, said):
    door, kept = script("gpu_kernels"), tmp_path / "x.json"
    assert door.unused(kept) == kept
    kept.write_text(json.dumps(old))
    fresh = door.unused(kept)
    assert fresh.name == "x.2.json"
    fresh.write_text(json.dumps(new))
    assert door.unused(kept).name == "x.3.json"
    found = door.settled(kept, fresh)
    assert said in found
    assert bool(said) == bool(found) == fresh.exists()
    assert json.loads(kept.read_text()) == (old if said else new)


def test_the_results_in_the_repository_have_rows_that_are_not_lost(root, script):
    door = script("gpu_kernels")
    for file in (root / "benchmarks" / "results").glob("gpu_*.json"):
        if file.stem in ROWS:
            assert door.compared(json.loads(file.read_text())), file.name


def test_without_peft_a_row_on_a_bf16_base_is_edgefms_alone_and_says_why(run, script, monkeypatch):
    lora = script("gpu_lora")
    run.card = False
    monkeypatch.setenv("EDGEFM_KERNELS", "lora=reference")
    monkeypatch.setitem(sys.modules, "peft", None)
    asked = argparse.Namespace(device="cpu", quick=True, variants=False, no_compile=False)
    row = lora.row(run, asked, "tiny mlp", "bf16", "tiny", False, 0.1)
    assert list(row["step"]) == ["EdgeFM", "EdgeFM, two layers"]
    assert max(row["error"], row["errors"]["EdgeFM, two layers"]) < 0.02
    assert list(row["failed"]) == ["PEFT"]
    assert "kernels" not in row
    assert run.finish() == 0
    assert row["kernels"] == {}


def test_until_both_have_run_there_is_no_ratio_of_adapt(script):
    adapt, said = script("gpu_adapt"), script("gpu_numbers").qlora
    run = {"images_per_s": 30.0, "peak_bytes": 100, "device": "a card"}
    alone = adapt.compared({"EdgeFM": [run], "PEFT": []})
    assert said(alone) == "not yet measured"
    both = adapt.compared({"EdgeFM": [run], "PEFT": [run | {"images_per_s": 20.0, "peak_bytes": 125}]})
    assert said(both) == "1.50 times the images/s, 0.80 times the memory (a card)"
    assert adapt.shared({"images_per_s": 60.0}, alone["runs"])["share"] == {"EdgeFM": 0.5}
