"""What every test shares: no network, two threads, a cache of its own, and the real data where they are.

Not the rooms' own fixtures; each folder has a conftest of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before any library reads them; subprocesses inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
# Where tests run side by side each process has a core of its own: two threads each would be in one another's way.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
if not Path("/dev/nvidiactl").exists():  # Triton's own library is interpreted or compiled as it is when it is first imported
    os.environ["TRITON_INTERPRET"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="edgefm-tests-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set EDGEFM_TEST_DATA to their folder")
    return folder
