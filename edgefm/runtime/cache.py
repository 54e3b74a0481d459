"""The per-user folder for what can always be made again: the device's choices and OpenVINO's compiled models.

Not a place for anything that would be missed. Where it cannot be used nothing fails: things are made again each time.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path | None:
    """`$XDG_CACHE_HOME/edgefm/PARTS…`, by default under `~/.cache`, made if needed.

    Returns:
        A folder that this user owns and may write in, or None. Another user's folder is not trusted: what lies there decides
        which model runs.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        folder = root.joinpath("edgefm", *parts)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owned = folder.stat().st_uid == os.geteuid()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    return folder if owned and os.access(folder, os.W_OK | os.X_OK) else None


def store(path: Path, data: bytes) -> bool:
    """Write a small file whole or not at all, also while other processes write it; False where it cannot be written."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(prefix=path.name, suffix=".partial", dir=path.parent)
    except OSError:
        return False
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        return False
    return True
