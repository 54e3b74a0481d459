"""What machine this is, and whether it did other work while something was timed.

Not who it belongs to: no host name, no serial number, no path.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..runtime.cpu import CGROUPS, cgroup_quota, cpu_features, cpu_name, usable_threads

CPUS = Path("/sys/devices/system/cpu")
PROC = Path("/proc")
LIBRARIES = ("edgefm", "numpy", "Pillow", "onnxruntime", "openvino")
CAPS = ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA", "EDGEFM_ISA", "OMP_NUM_THREADS")  # the environment's, over the processor's own
QUIET = 0.10  # share of the processors that others may use before a measurement is called disturbed


def machine(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Processor, memory, operating system and versions, as plain values; what cannot be read is None.

    Args:
        libraries: distributions whose versions are told where they are installed.

    Returns:
        cpu, features (instruction sets), cores (logical), physical_cores, usable_threads (of this process), cgroup_quota
        (processors), frequency (see `frequency`), memory_gib (total, limit), caps (those of `CAPS` that are set, and their
        values), system, versions.
    """
    return {
        "cpu": cpu_name(),
        "features": sorted(name for name, there in cpu_features().items() if there),
        "cores": os.cpu_count(),
        "physical_cores": physical_cores(),
        "usable_threads": usable_threads(),
        "cgroup_quota": cgroup_quota(CGROUPS, _read(PROC / "self" / "cgroup")),
        "frequency": frequency(),
        "memory_gib": memory_gib(),
        "caps": {name: os.environ[name] for name in CAPS if os.environ.get(name)},
        "system": " ".join(filter(None, [_distribution(), platform.system(), platform.release(), platform.machine()])),
        "versions": {"python": platform.python_version()} | _versions(libraries),
    }


def physical_cores() -> int | None:
    """Cores behind the processors that this process may use, hyperthreads counted once; None where Linux does not tell."""
    cores = set()
    for cpu in _usable():
        topology = CPUS / f"cpu{cpu}" / "topology"
        core = _read(topology / "physical_package_id").strip(), _read(topology / "core_id").strip()
        if not all(core):
            return None
        cores.add(core)
    return len(cores) or None


def frequency() -> dict[str, Any] | None:
    """How the first usable processor's clock is governed: governor, min_mhz, max_mhz, boost; None in most virtual machines."""
    policy = CPUS / f"cpu{min(_usable(), default=0)}" / "cpufreq"
    governor = _read(policy / "scaling_governor").strip()
    if not governor:
        return None
    low, high = (_read(policy / f"scaling_{end}_freq").strip() for end in ("min", "max"))
    boost, no_turbo = _read(CPUS / "cpufreq" / "boost").strip(), _read(CPUS / "intel_pstate" / "no_turbo").strip()
    return {
        "governor": governor,
        "min_mhz": int(low) // 1000 if low.isdigit() else None,
        "max_mhz": int(high) // 1000 if high.isdigit() else None,
        "boost": boost == "1" if boost else no_turbo == "0" if no_turbo else None,
    }


def memory_gib() -> dict[str, float | None]:
    """Memory of the machine and of this process's cgroup, GiB; None where unknown or without limit."""
    total = re.search(r"MemTotal:\s+(\d+) kB", _read(PROC / "meminfo"))
    limit = (_read(CGROUPS / "memory.max") or _read(CGROUPS / "memory" / "memory.limit_in_bytes")).strip()
    whole = int(total[1]) / 2**20 if total else None
    cut = int(limit) / 2**30 if limit.isdigit() else None
    return {
        "total": round(whole, 1) if whole else None,
        "limit": round(cut, 1) if cut and whole and cut < whole else None,
    }


class Watch:
    """What other programs do from now on. Linux only; elsewhere only the load average is known.

    A short loop timed between the contenders does not show it: the scheduler favours who has just slept (measured with both
    processors busy: the loop's p95 is 1.2 times its fastest). So the kernel's own account is taken: all processor time that was
    not idle, less what this process and its ended children used.
    """

    def __init__(self) -> None:
        self.load_before = _load()
        self._busy, self._all, self._own = self._now()

    def seen(self) -> dict[str, float | None]:
        """load_before and load_after (one minute's load average; after, it holds our own work too), others (share 0 to 1 of
        the processors that this process may use). Children must have ended before."""
        busy, everything, own = self._now()
        passed = everything - self._all
        others = (busy - self._busy - (own - self._own)) / passed if passed > 0 else None
        return {
            "load_before": self.load_before,
            "load_after": _load(),
            "others": others and round(min(1.0, max(0.0, others)), 3),
        }

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Processor seconds since the start of the machine: busy, all; and our own."""
        ids, busy, everything = {f"cpu{cpu}" for cpu in _usable()}, 0.0, 0.0
        for line in _read(PROC / "stat").splitlines():
            name, *counts = line.split()
            if name in ids:  # user nice system idle iowait irq softirq steal; guests are within user
                ticks = [int(count) for count in counts[:8]]
                everything += sum(ticks)
                busy += sum(ticks) - sum(ticks[3:5])
        second = os.sysconf("SC_CLK_TCK")
        return busy / second, everything / second, sum(os.times()[:4])


def disturbance(seen: dict[str, float | None], threads: int) -> str | None:
    """One sentence if the machine did other work, as `Watch.seen` found it; None on a quiet machine."""
    others, load = seen["others"], seen["load_before"]
    if others is not None:
        if others <= QUIET:
            return None
        return f"Other programs used {100 * others:.0f} % of the processors: these are not the times of a quiet machine."
    if load is None or load <= 0.5 * threads:
        return None
    return f"The load was {load:g} before the start: these are not the times of a quiet machine."


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return ""


def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
