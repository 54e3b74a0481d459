"""What this machine's processor is and how much of it this process may use.

Not a benchmark, and not an identity of a person or a place: no serial number, no host name.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")

FEATURES = (
    "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "sha_ni", "asimd", "asimddp", "i8mm", "sha2",
)  # fmt: skip


def cpu_features() -> dict[str, bool]:
    """Every name in `FEATURES`, Linux's own, and whether the processor has it and the operating system has switched it on."""
    try:
        from edgefm import _native
    except ImportError:
        flags = {*_cpuinfo("flags").split(), *_cpuinfo("Features").split()}
        return {name: name in flags for name in FEATURES}
    found = _native.cpu_features()
    return {name: bool(found.get(name)) for name in FEATURES}


def runs_bf16() -> bool:
    """Whether this processor computes in bf16."""
    features = cpu_features()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def cpu_name() -> str:
    """The processor's own name, e.g. "Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz", or the architecture if it tells none."""
    return " ".join((_cpuinfo("model name") or platform.processor() or platform.machine() or "unknown").split())


def machine_id() -> str:
    """Sixteen hex digits, the same for every process on machines with the same processor, features and usable threads."""
    features = ",".join(name for name, present in sorted(cpu_features().items()) if present)
    return hashlib.sha256(f"{cpu_name()};{features};{usable_threads()}".encode()).hexdigest()[:16]


def usable_threads() -> int:
    """Threads that can really run at once, at least 1: the affinity mask, cut to the cgroup's CPU quota (rounded up)."""
    if hasattr(os, "sched_getaffinity"):
        threads = len(os.sched_getaffinity(0))
    else:
        threads = os.cpu_count() or 1
    quota = cgroup_quota(CGROUPS, _read(Path("/proc/self/cgroup")))
    return threads if quota is None else max(1, min(threads, math.ceil(quota)))


def cgroup_quota(root: Path, membership: str) -> float | None:
    """The smallest CPU quota, in processors, of this process's cgroups and all groups above them; None for no limit.

    Args:
        root: where the cgroup file systems are mounted.
        membership: the text of /proc/self/cgroup, lines of `id:controllers:path`.
    """
    quotas = []
    for line in membership.splitlines():
        _, _, line = line.partition(":")
        controllers, colon, path = line.partition(":")
        if not colon:
            continue
        if controllers == "":
            mounts, read = [root, root / "unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = [root / controllers, root / "cpu"], _quota_v1
        else:
            continue
        group = Path(*(part for part in Path(path.lstrip("/")).parts if part != ".."))
        quotas += [read(mount / level) for mount in mounts for level in (group, *group.parents)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    """`cpu.max` holds "QUOTA PERIOD" or "max PERIOD", microseconds."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period.strip())


def _quota_v1(folder: Path) -> float | None:
    """`cpu.cfs_quota_us` is -1 for no limit."""
    quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpuinfo(field: str) -> str:
    """The first value of a field of /proc/cpuinfo, or ""."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
