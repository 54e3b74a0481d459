"""Compile Triton kernels for cards that are not here, and read what the compiler says of them.

Not a test: `test_*_compiles.py` are. Run in a process without TRITON_INTERPRET, under which there is nothing to compile.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# shared memory that one block may have, bytes: CUDA programming guide, table of compute capabilities
SHARED = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}


class Built(NamedTuple):
    """What a kernel became on one card: matrix instructions and loads of single bytes in its PTX, shared memory, registers a
    thread, spilled bytes."""

    matrix: bool
    byte_loads: int
    shared: int
    registers: int
    spills: int


def build(
    kernel: Any, types: Mapping[str, str], constants: Mapping[str, Any], capability: int, warps: int, stages: int
) -> Built:
    """Compile `kernel` for `capability`.

    Args:
        types: argument -> type ("*fp16", "i32", "fp32"); pointers and i32 count as divisible by 16, as launches find them,
            except those that end in "!" ("i32!"); "1" is an integer that is 1, which a launch makes a constant.
        constants: the constexpr arguments.
    """
    names, constants = kernel.arg_names, {**constants, **{name: 1 for name, kind in types.items() if kind == "1"}}
    signature = {name: "constexpr" if name in constants else types[name].rstrip("!") for name in names}
    divisible = {
        (names.index(name),): [["tt.divisibility", 16]]
        for name, kind in types.items()
        if name not in constants and (kind.startswith("*") or kind == "i32")
    }
    source = ASTSource(kernel, signature, constexprs=constants, attrs=divisible)
    options = {"num_warps": warps, "num_stages": stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    registers, spills = _resources(ptx)
    matrix, byte_loads = bool(re.search(r"\b(mma|wgmma)\.", ptx)), len(re.findall(r"\bld\.global\S*\.[bsu]8\b", ptx))
    return Built(matrix, byte_loads, compiled.metadata.shared, registers, spills)


def _resources(ptx: str) -> tuple[int, int]:
    """Registers a thread and bytes of spill stores, as ptxas -v counts them."""
    binary = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    arch = re.search(r"\.target (sm_\w+)", ptx)
    blackwell = binary.with_name("ptxas-blackwell")
    if arch and int(re.sub(r"\D", "", arch[1])) >= 100 and blackwell.exists():
        binary = blackwell
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [str(binary), "-v", f"--gpu-name={arch[1]}", str(path), "-o", str(Path(folder) / "kernel.cubin")]
        words = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return int(re.search(r"Used (\d+) registers", words)[1]), int(re.search(r"(\d+) bytes spill stores", words)[1])
