"""Times that `bench` wrote of a bundle, for its report: read, and tried now, before hours are measured that a page would miss.

Not the measuring (`bench/`), and not how they look (`findings.py`, `cost.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bench.history import read
from ..errors import InputError
from .again import timed
from .findings import latency


def read_times(path: Path, identity: str) -> dict[str, Any]:
    """The findings in a bench.json or a history.jsonl.

    Args:
        identity: the id of the bundle.

    Raises:
        InputError: another file, of another bundle, or of another version.
    """
    found = read(path)
    try:
        known = {each["id"] for each in found["bundles"]}
        latency(found)
        list(timed({"bundle": {"id": identity, "refused": None}}, found))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not what this version of bench writes ({type(error).__name__}: {error})",
            expected="a bench.json or a history.jsonl",
            do="measure anew with edgefm bench",
        ) from error
    if identity not in known:
        raise InputError(
            f"{path} holds times of {', '.join(sorted(each[:12] for each in known)) or 'no bundle'}",
            expected=f"times of this bundle, {identity[:12]}",
            do="measure them with edgefm bench",
        )
    return found
