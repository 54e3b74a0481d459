"""Devices on machines of another kind: what is imitated, what is said not to be, and what a budget comes to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefm import api
from edgefm.bench import profile as room
from edgefm.bench.bench import bench
from edgefm.bench.contender import Limits, Started
from edgefm.bench.profile import apart, imitate, judge
from edgefm.errors import InputError
from edgefm.runtime import cpu as processors
from edgefm.runtime import instructions as known
from edgefm.spec.device import DEVICES, Budget, Device
from edgefm.views import show_bench

from .conftest import MakeBundle, fake
from .test_compare import run
from .test_page import contender

linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity and RLIMIT_DATA are Linux's")


@pytest.fixture
def processor(monkeypatch):
    """A processor with these features, and so many threads of it usable."""

    def have(*features: str, threads: int = 2) -> None:
        monkeypatch.setattr(known, "cpu_features", lambda: dict.fromkeys(features, True))
        monkeypatch.setattr(room, "usable_threads", lambda: threads)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(threads)), raising=False)

    return have


@pytest.mark.parametrize(
    ("instructions", "features", "word", "imitated", "missing"),
    [
        ("avx2", ("avx2", "avx512f"), "AVX2", "avx2 for OpenVINO", "ONNX Runtime cannot be capped"),
        ("avx2", ("avx2",), None, "avx2 is this processor's own", None),
        ("avx2", ("avx2", "avx_vnni"), "AVX2", "avx2 for OpenVINO", "ONNX Runtime cannot be capped"),
        ("avx_vnni", ("avx2", "avx_vnni", "avx512f"), "AVX2_VNNI", "avx_vnni for OpenVINO", "ONNX Runtime cannot be capped"),
        ("avx_vnni", ("avx2", "avx512f", "avx512_vnni"), None, None, "no avx_vnni, its own stay in use but for bf16"),
        ("avx512_vnni", ("avx512f", "avx512_vnni", "amx_tile"), "AVX512_CORE_VNNI", "avx512_vnni for", "ONNX Runtime"),
        ("neon_dotprod", ("avx2",), None, None, "this processor has no neon_dotprod"),
        ("neon", ("asimd", "asimddp"), None, None, "neon cannot be capped here, asimddp stays in use"),
        (None, ("avx2",), None, None, None),
    ],
)
def test_an_instruction_set_is_capped_its_own_or_said_to_be_neither(processor, instructions, features, word, imitated, missing):
    processor(*features)
    found = imitate(Device(instructions=instructions))
    assert found.limits.environment.get("ONEDNN_MAX_CPU_ISA") == word
    assert found.limits.environment.get("OV_CPU_MAX_ISA") == word  # either of them alone is half a cap
    assert any(imitated in each for each in found.imitated) if imitated else not found.imitated
    told = [each for each in found.missing if each.startswith("instructions")]
    assert any(missing in each for each in told) if missing else not told
    assert found.missing[-1] == "clock, caches and memory bus are this machine's"


def test_what_has_no_bf16_runs_none_whether_it_can_be_capped_or_not(processor):
    processor("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    assert not imitate(Device(instructions="avx2")).bf16
    for instructions in ("avx_vnni", "neon_dotprod"):
        found = imitate(Device(instructions=instructions))
        assert not found.limits.environment  # this processor has none
        assert not found.bf16
    assert imitate(Device(instructions="avx512_bf16")).bf16
    assert imitate(Device()).bf16


@linux
def test_bf16_is_left_out_with_its_reason_of_bundles_and_of_rivals(make_bundle: MakeBundle, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(processors, "cpu_features", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(known, "cpu_features", processors.cpu_features)
    rivals = [fake("steady", f"torch {precision}", precision=precision) for precision in ("fp32", "bf16")]
    found = bench(
        [make_bundle(variants=("openvino-fp32",), bf16=True)],
        rivals=rivals,
        image=None,
        draw=lambda side: np.zeros((side, side), np.uint8),
        runs=1,
        threads=1,
        allow_refused=False,
        report=lambda _: None,
        bar=lambda done, left: None,
        device=("board", Device(instructions="neon_dotprod")),
        starts=1,
        details=False,
    )
    assert [each["name"] for each in found["contenders"]] == ["openvino-fp32", "torch fp32"]
    assert found["left_out"] == dict.fromkeys(("openvino-bf16", "torch bf16"), "the device has no bf16")
    told = "instructions: this processor has no neon_dotprod, its own stay in use but for bf16"
    assert told in found["device"]["not_imitated"]


@linux
def test_more_cores_than_there_are_are_not_imitated_and_fewer_are(processor):
    processor("avx2", threads=2)
    assert imitate(Device(cores=4)).missing[0] == "cores: the device has 4, here are 2"
    assert imitate(Device(cores=4)).limits.cpus is None
    assert imitate(Device(cores=1)).limits.cpus == (0,)


def test_the_first_processors_are_cores_and_hyperthreads_come_last(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(room, "CPUS", tmp_path)
    assert apart({1, 0, 3, 2}) == (0, 1, 2, 3)  # nothing is known
    for cpu, core in ((0, 0), (1, 0), (2, 1), (3, 1)):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{core}\n")
    assert apart({0, 1, 2, 3}) == (0, 2, 1, 3)


@linux
def test_a_process_keeps_to_its_limits(image: Path):
    cpu = min(os.sched_getaffinity(0))
    limits = Limits(cpus=(cpu,), memory=600 * 2**20, environment={"OV_CPU_MAX_ISA": "AVX2"})
    with Started(fake("limited", take_mib=10), image=image, threads=1, limits=limits) as started:
        assert (started.facts["cpus"], started.facts["isa"]) == ([cpu], "AVX2")
    with pytest.raises(InputError, match="MemoryError"):
        Started(fake("limited", take_mib=700), image=image, threads=1, limits=limits)


def test_what_cannot_bear_the_cap_runs_without_and_says_so(tmp_path: Path):
    limits = Limits(environment={"OV_CPU_MAX_ISA": "AVX2"})
    shy, calm = run([fake("shy", "shy"), fake("steady", "calm")], 1, tmp_path, limits=limits)
    assert shy["uncapped"] == "no primitive for that"
    assert shy["answer"]["n"] == 1
    assert "uncapped" not in calm
    (bad,) = run([fake("refuses", "bad")], 1, tmp_path, limits=limits)
    assert bad["error"].startswith("the weights are missing")  # the cap is not to blame
    assert "uncapped" not in bad


BUDGET = Budget(latency_p95_ms=13.0, cold_start_s=2.0, peak_memory_mib=400)


def judged(budget: Budget, *records: dict[str, Any]) -> dict[str, Any]:
    (found,) = judge(Device(budget=budget), [("a.efm", records)])
    return found


def test_the_fastest_of_a_bundle_is_held_to_the_budget():
    found = judged(BUDGET, contender("slow", 20.0, peak_mib=300.0), contender("fast", 10.0, peak_mib=300.0))
    assert (found["contender"], found["met"]) == ("fast", True)
    assert [(each["name"], each["found"], each["upper"]) for each in found["budgets"]] == [
        ("latency_p95_ms", 12.0, 13.0),
        ("cold_start_s", 1.511, None),
        ("peak_memory_mib", 349.4, None),  # a start took more than all that came after
    ]


@pytest.mark.parametrize(
    ("budget", "missed"),
    [
        (Budget(latency_p95_ms=12.5), ["latency_p95_ms"]),  # p95 is 12.0, but may be 13.0
        (Budget(cold_start_s=1.5), ["cold_start_s"]),
        (Budget(peak_memory_mib=349), ["peak_memory_mib"]),
        (Budget(), []),
    ],
)
def test_each_budget_can_be_missed(budget, missed):
    found = judged(budget, contender("fast", 10.0, peak_mib=300.0))
    assert [each["name"] for each in found["budgets"] if not each["met"]] == missed
    assert found["met"] is not bool(missed)


def test_few_runs_without_an_interval_cannot_show_that_a_budget_is_met_but_that_it_is_missed():
    record = contender("fast", 10.0, peak_mib=300.0)
    record["answer"] |= {"p95_interval": None, "n": 59}
    found = judged(Budget(latency_p95_ms=12.0), record)
    (budget,) = found["budgets"]
    assert (found["met"], found["runs"], budget["met"], budget["needs"]) == (False, 59, None, 60)
    (budget,) = judged(Budget(latency_p95_ms=11.9), record)["budgets"]
    assert budget["met"] is False
    assert "needs" not in budget
    assert judged(Budget(cold_start_s=2.0), record)["met"]  # has no interval with any number of runs


def test_a_bundle_of_which_nothing_runs_does_not_meet_its_budget():
    assert judged(BUDGET, {"name": "a", "error": "it died"}) == {
        "bundle": "a.efm", "contender": None, "met": False, "runs": 0, "budgets": []
    }  # fmt: skip


@linux
def test_a_budget_that_is_not_met_is_exit_code_5_and_the_findings_are_written(make_bundle: MakeBundle, tmp_path: Path, capsys):
    bundle, file, out = make_bundle(variants=("onnx-fp32",)), tmp_path / "tight.yaml", tmp_path / "out"
    file.write_text("cores: 1\nmemory_mib: 1024\nbudget: {latency_p95_ms: 0.0001, peak_memory_mib: 1024}\n")
    found = api.bench((str(bundle),), runs=1, profile=str(file), out=out)
    assert (out / "bench.json").exists()
    assert (found["device"]["name"], found["device"]["met"], found["threads"]) == ("tight", False, 1)
    assert show_bench(found, as_json=False) == 5
    told = capsys.readouterr().out
    assert "does not meet the budget of tight: p95 from file to answer." in told
    assert "Imitated: cores: 1 by affinity." in told
    assert "Not imitated here: clock, caches and memory bus are this machine's." in told
    assert "| budget of tight |" in (out / "bench.md").read_text()
    file.write_text("budget: {peak_memory_mib: 4000}\n")
    found = api.bench((str(bundle),), runs=1, profile=str(file))
    assert show_bench(found, as_json=False) == 0


@linux
def test_what_does_not_fit_into_the_memory_is_exit_code_5(make_bundle: MakeBundle, tmp_path: Path, capsys):
    (tmp_path / "tiny.yaml").write_text("memory_mib: 64\n")
    found = api.bench((str(make_bundle(variants=("openvino-fp32",))),), runs=1, profile=str(tmp_path / "tiny.yaml"))
    assert "error" in found["contenders"][0]
    assert show_bench(found, as_json=False) == 5
    assert "small.efm does not run within the limits of tiny." in capsys.readouterr().out


@linux
def test_whoever_meets_a_budget_uncapped_is_named(make_bundle: MakeBundle, tmp_path: Path, processor):
    processor("avx2", "avx512f")
    (tmp_path / "old.yaml").write_text("instructions: avx2\n")
    found = api.bench((str(make_bundle(variants=("onnx-fp32",))),), runs=1, profile=str(tmp_path / "old.yaml"))
    named = "instructions: onnx-fp32, which is held to the budget, ran on this processor's own"
    assert named in found["device"]["not_imitated"]


def test_every_device_that_ships_can_be_asked_for_here():
    for device in DEVICES.values():
        assert imitate(device).missing
