"""What one core of this machine can do at most, in billions of operations per second, measured from registers alone.

Not a benchmark of EdgeFM: the denominator of those that say "share of the ceiling". Needs g++.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def ceilings() -> dict[str, float]:
    """GOP/s by name, of int8_avx512_vnni, fp32_avx512 and fp32_avx2 those that this processor has."""
    source = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "ceiling"
        subprocess.run(["g++", "-O2", "-std=c++17", str(source), "-o", str(program)], check=True)
        lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: float(value) for name, value in map(str.split, lines)}


if __name__ == "__main__":
    print(ceilings())
