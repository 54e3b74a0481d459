"""Is every C++ file as clang-format would write it? Does nothing where there are none.

Not the formatting itself: `clang-format -i` does that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUFFIXES = {".cpp", ".h", ".inl", ".cu"}


def main() -> int:
    files = sorted(str(file) for file in Path("csrc").rglob("*") if file.suffix in SUFFIXES)
    if not files:
        return 0
    return subprocess.run([sys.argv[1], "--dry-run", "--Werror", *files], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
