"""How many threads a session takes, and what it says where it gets none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgefm.runtime import cpu

from ..runtime.test_cpu import files

V1 = {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}
NONE_ABOVE = {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
GROUPS = [
    ({"cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "400000 100000\n"}, "0::/a/b\n", 1.5),
    ({"unified/a/cpu.max": "150000 100000\n"}, "4:cpu:/\n0::/a\n", 1.5),
    ({"cpu.max": "50000 100000\n"}, "0::/docker/4711\n", 0.5),
    ({"cpu.max": "50000 100000\n"}, "0::/../../init\n", 0.5),
    ({"cpu.max": "50000 100000\n"}, "0::/with:colon\n", 0.5),
    ({**V1, **NONE_ABOVE}, "11:memory:/x\n4:cpu,cpuacct:/x\n3:cpuset:/x\n", 3.0),
    ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/x", 0.25),
    *(({"cpu.max": text}, "0::/\n", None) for text in ("", "max 1", "nonsense", "1 0", "100000", "-5 1", "1e5 1", "+5 1")),
    *(({"cpu.max": "1 2"}, text, None) for text in ("", "\n", "garbage\n", "0:\n")),
    ({"cpu.max": "1 2"}, "0::\n", 0.5),
]


@pytest.mark.parametrize(("texts", "membership", "quota"), GROUPS)
def test_a_control_groups_quota_is_read_as_in_python(probe, tmp_path, texts, membership, quota):
    root = files(tmp_path, texts)
    assert probe.cgroup_quota(root, membership) == cpu.cgroup_quota(root, membership) == quota


def test_here_both_count_the_same(probe):
    assert probe.usable_processors() == cpu.usable_threads()


def child(root: Path, library: Path, code: str) -> str:
    """What a new process with the library prints."""
    before = "import os, resource\nfrom pathlib import Path\nfrom tests.native import capi\n"
    code = f"{before}c = capi.Library(Path({str(library)!r}))\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_threads_asked_for_are_as_many_as_the_affinity_allows(root, library):
    bundle = root / "csrc" / "fuzz" / "corpus" / "native-int8"
    code = f"""
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
session = c.open(Path({str(bundle)!r}), threads=0)
one = count() - before
other = c.open(Path({str(bundle)!r}), threads=3)
print(one, count() - before)
"""
    assert child(root, library / "libedgefm.so", code) == "0 2"


def test_threads_that_cannot_be_started_are_a_lack_of_memory_and_leave_nothing(root, library):
    bundle = root / "csrc" / "fuzz" / "corpus" / "native-int8"
    code = f"""
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)  # each thread takes the room of a stack
try:
    c.open(Path({str(bundle)!r}), threads=256)
except capi.Failed as failed:
    print(failed.status, failed.message, count() - before)
c.open(Path({str(bundle)!r}), threads=1)
"""
    found = child(root, library / "libedgefm.so", code)
    assert found.startswith("10 cannot start 256 threads (")
    assert found.endswith(" 0")


def test_threads_that_were_kept_off_a_processor_to_wake_have_the_callers_affinity_again(root, library):
    bundle = root / "csrc" / "fuzz" / "corpus" / "native-int8"
    code = f"""
import time
import numpy as np
own = os.sched_getaffinity(0)
masks = lambda: {{frozenset(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}}
session = c.open(Path({str(bundle)!r}), threads=2)
for _ in range(20):
    time.sleep(0.005)  # the other thread sleeps
    session.predict(np.zeros((9, 9), np.uint8))
print(masks() == {{frozenset(own)}}, os.sched_getaffinity(0) == own)
os.sched_setaffinity(0, {{min(own)}})  # of the caller alone
time.sleep(0.005)
session.predict(np.zeros((9, 9), np.uint8))
print(os.sched_getaffinity(0) == {{min(own)}})
"""
    assert child(root, library / "libedgefm.so", code) == "True True\nTrue"
