"""The processor and the share of it that this process may use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgefm.runtime import cpu


def files(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_v2_quota_is_the_smallest_on_the_way_to_the_root(tmp_path):
    root = files(tmp_path, {"cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "400000 100000\n"})
    assert cpu.cgroup_quota(root, "0::/a/b\n") == 1.5


def test_a_v2_group_that_the_container_cannot_see_falls_back_to_the_root(tmp_path):
    root = files(tmp_path, {"cpu.max": "50000 100000\n"})
    assert cpu.cgroup_quota(root, "0::/docker/4711\n") == 0.5
    assert cpu.cgroup_quota(root, "0::/../../init\n") == 0.5


def test_a_v1_quota_is_read_beside_other_controllers(tmp_path):
    quota = {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}
    root = files(tmp_path, {**quota, "cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"})
    assert cpu.cgroup_quota(root, "11:memory:/x\n4:cpu,cpuacct:/x\n3:cpuset:/x\n") == 3.0


@pytest.mark.parametrize("text", ["", "max 100000", "nonsense", "100000 0", "100000", "-5 100000", "1e5 100000"])
def test_no_quota_or_a_meaningless_one_is_no_limit(tmp_path, text):
    assert cpu.cgroup_quota(files(tmp_path, {"cpu.max": text}), "0::/\n") is None


@pytest.mark.parametrize("membership", ["", "\n", "garbage\n", "0::\n"])
def test_a_strange_membership_file_is_no_limit(tmp_path, membership):
    assert cpu.cgroup_quota(tmp_path, membership) is None


def test_usable_threads_follow_affinity_and_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cpu, "cgroup_quota", lambda *_: None)
    assert cpu.usable_threads() == 6
    for quota, threads in ((2.5, 3), (0.1, 1), (64.0, 6)):
        monkeypatch.setattr(cpu, "cgroup_quota", lambda *_, q=quota: q)
        assert cpu.usable_threads() == threads


def test_the_affinity_of_this_process_is_respected():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from edgefm.runtime.cpu import usable_threads; print(usable_threads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "1"


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="compares with Linux on x86-64"
)
def test_the_native_module_and_the_kernel_agree_on_the_features():
    native = pytest.importorskip("edgefm._native", reason="the C++ module is not built")
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    found = native.cpu_features()
    assert set(found) <= set(cpu.FEATURES)
    assert {name: name in flags for name in found} == found


def test_features_have_the_same_names_with_and_without_the_native_module():
    assert list(cpu.cpu_features()) == list(cpu.FEATURES)
    assert all(isinstance(value, bool) for value in cpu.cpu_features().values())


def test_the_machine_has_one_identity_without_its_name_in_it():
    identity = cpu.machine_id()
    assert len(identity) == 16
    assert int(identity, 16) >= 0
    code = "from edgefm.runtime.cpu import machine_id; print(machine_id())"
    environment = {**os.environ, "HOSTNAME": "elsewhere"}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == identity


def test_another_number_of_threads_is_another_machine(monkeypatch):
    identity = cpu.machine_id()
    monkeypatch.setattr(cpu, "usable_threads", lambda: 77)
    assert cpu.machine_id() != identity


def test_the_processor_has_a_name_even_where_nothing_tells_it(monkeypatch):
    assert cpu.cpu_name()
    monkeypatch.setattr(cpu, "_cpuinfo", lambda _: "")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu.cpu_name() == platform.machine()
