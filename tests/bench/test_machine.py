"""The machine's facts, on machines made of files, and work of others that must be seen."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefm.bench import machine as room
from edgefm.bench.machine import Watch, disturbance, frequency, machine, memory_gib, physical_cores


@pytest.fixture
def files(tmp_path: Path, monkeypatch):
    """`files(path, text)` writes what the kernel would show; two processors may be used."""
    for name in ("CPUS", "PROC", "CGROUPS"):
        monkeypatch.setattr(room, name, tmp_path / name)
    monkeypatch.setattr(room, "_usable", lambda: {0, 1})

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def test_the_facts_are_plain_json_without_the_name_of_the_machine():
    text = json.dumps(machine())
    assert json.loads(text)["usable_threads"] >= 1
    assert platform.node() not in re.findall(r"[\w.-]+", text)
    assert machine()["versions"].keys() >= {"python", "numpy"}


def test_a_cap_of_the_environment_is_told(monkeypatch):
    for name in room.CAPS:
        monkeypatch.delenv(name, raising=False)
    assert machine()["caps"] == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine()["caps"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def test_a_machine_that_tells_nothing_gives_none(files):
    assert (physical_cores(), frequency(), memory_gib()) == (None, None, {"total": None, "limit": None})
    assert machine(libraries=("no such library",))["versions"].keys() == {"python"}


def test_hyperthreads_are_one_core(files):
    for cpu in (0, 1):
        files(f"CPUS/cpu{cpu}/topology/physical_package_id", "0\n")
        files(f"CPUS/cpu{cpu}/topology/core_id", "3\n")
    assert physical_cores() == 1
    files("CPUS/cpu1/topology/physical_package_id", "1\n")
    assert physical_cores() == 2


@pytest.mark.parametrize(
    ("switch", "text", "boost"),
    [
        ("cpufreq/boost", "0", False),
        ("intel_pstate/no_turbo", "0", True),
        ("intel_pstate/no_turbo", "1", False),
        ("x", "", None),
    ],
)
def test_the_clock_and_what_governs_it(files, switch, text, boost):
    files("CPUS/cpu0/cpufreq/scaling_governor", "powersave\n")
    files("CPUS/cpu0/cpufreq/scaling_min_freq", "800000\n")
    files("CPUS/cpu0/cpufreq/scaling_max_freq", "3600000\n")
    files(f"CPUS/{switch}", text)
    assert frequency() == {"governor": "powersave", "min_mhz": 800, "max_mhz": 3600, "boost": boost}


def test_a_limit_of_memory_is_told_where_it_limits(files):
    files("PROC/meminfo", "MemTotal:  8388608 kB\n")
    files("CGROUPS/memory.max", "max\n")
    assert memory_gib() == {"total": 8.0, "limit": None}
    files("CGROUPS/memory.max", f"{2**31}\n")
    assert memory_gib() == {"total": 8.0, "limit": 2.0}


def stat(user: int, idle: int, steal: int = 0, iowait: int = 0) -> str:
    """/proc/stat with two usable processors and one that others own, which is always busy."""
    line = f"{user} 0 0 {idle} {iowait} 0 0 {steal} 0 0"
    return f"cpu  9 9 9 9\ncpu0 {line}\ncpu1 {line}\ncpu2 {10 * (user + idle)} 0 0 0 0 0 0 0 0 0\nintr 5\n"


@pytest.mark.parametrize(
    ("after", "own", "others"),
    [
        ((0, 100), 0.0, 0.0),
        ((100, 0), 0.0, 1.0),
        ((50, 50), 1.0, 0.0),
        ((50, 50), 0.5, 0.25),
        ((0, 50, 50), 0.0, 0.5),
        ((50, 0, 0, 50), 0.0, 0.5),
    ],
)
def test_others_are_what_was_not_idle_and_not_ours(files, monkeypatch, after, own, others):
    monkeypatch.setattr(room.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(room.os, "times", lambda: (0.0, 0.0, 0.0, 0.0, 0.0))
    files("PROC/stat", stat(0, 0))
    watch = Watch()
    monkeypatch.setattr(room.os, "times", lambda: (own / 2, 0.0, own / 2, 0.0, 0.0))
    files("PROC/stat", stat(*after))
    assert watch.seen()["others"] == others


def test_work_of_another_process_is_seen():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # until it is reaped it is nobody's child to the count
    try:
        watch = Watch()
        time.sleep(0.5)
        seen = watch.seen()
    finally:
        busy.kill()
        busy.wait()
    if seen["others"] is None:
        pytest.skip("this system does not account for processors")
    assert seen["others"] > 0.3 / len(room._usable())


def seen(others: float | None, load: float | None = 0.0) -> dict[str, float | None]:
    return {"others": others, "load_before": load, "load_after": 9.0}


def test_a_busy_machine_is_said_and_a_quiet_one_is_not():
    assert disturbance(seen(0.05, load=9.0), 2) is None  # the load of what ended just before
    assert "43 %" in str(disturbance(seen(0.43), 2))


def test_without_an_account_the_load_before_decides():
    assert disturbance(seen(None, load=0.4), 2) is None
    assert "load was 1.5" in str(disturbance(seen(None, load=1.5), 2))
    assert disturbance(seen(None, load=None), 2) is None
