"""Compile Triton kernels for cards that are not here, and read what the compiler says of them.

Not a test: the gates `test_*_compiles.py` call it. It must run in a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 120: 99}  # what one program may take, by compute capability
MATRIX = re.compile(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)")


class Compiled(NamedTuple):
    """Whether there are matrix instructions; bytes of shared memory; registers a thread; bytes spilled a thread."""

    matrix: bool
    shared: int
    registers: int
    spilled: int


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], cc: int, *, warps: int, stages: int) -> Compiled:
    """Compile `kernel` for compute capability `cc`.

    Args:
        types: a Triton type for each argument that is no constant, such as "*fp16", "i32", "fp32"; ":16" after it says that the
            address or number is divisible by 16, as the launcher finds out for itself.
        constants: the compile-time arguments.
    """
    names = list(kernel.arg_names)
    signature = {name: "constexpr" if name in constants else types[name].split(":")[0] for name in names}
    attributes = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if types.get(name, "").endswith(":16")}
    source = ASTSource(
        fn=kernel, signature=signature, constexprs={(names.index(n),): v for n, v in constants.items()}, attrs=attributes
    )
    result = triton.compile(source, target=GPUTarget("cuda", cc, 32), options={"num_warps": warps, "num_stages": stages})
    registers, spilled = _resources(result.asm["cubin"])
    return Compiled(bool(MATRIX.search(result.asm["ptx"])), result.metadata.shared, registers, spilled)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a compiled kernel; Triton's kernels have no stack but for spills."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        text = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2])
