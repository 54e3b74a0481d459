"""The most memory that this process has used so far. Not a profiler: it does not say by what."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Peak resident memory of this process since it became this program, MiB.

    Linux's VmHWM. The same count from outside, `ru_maxrss`, starts a child at the peak of the process that started it, so that
    a small program looks as large as its parent; it serves where there is no VmHWM.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return round(int(found[1]) / 2**10, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
