"""Builds `edgefm._native`, one C++ unit per instruction set with its own flags; without a compiler EdgeFM installs anyway.

Not the project's metadata: that is in pyproject.toml.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra"]
ISA_FLAGS = {
    "preprocess_avx2.cpp": ["-mavx2", "-mfma"],
    "preprocess_avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-Wno-maybe-uninitialized"],
}
UNITS = ("bindings", "cpu_features", "png", "preprocess", "isa/preprocess_scalar")
SOURCES = [f"csrc/{name}.cpp" for name in UNITS]


class BuildNative(build_ext):
    """Adds the flags of its instruction set to each unit, and reports a failure instead of stopping at it."""

    def build_extension(self, ext: Extension) -> None:
        compile_one = self.compiler._compile

        def compile_with_own_flags(obj, src, suffix, cc_args, extra, pp_opts):  # type: ignore[no-untyped-def]
            compile_one(obj, src, suffix, cc_args, extra + ISA_FLAGS.get(Path(src).name, []), pp_opts)

        self.compiler._compile = compile_with_own_flags
        try:
            super().build_extension(ext)
        except Exception:
            print(
                "edgefm: the C++ module was not built; EdgeFM works without it, on numpy. `edgefm doctor` says more.",
                file=sys.stderr,
            )
            raise
        finally:
            self.compiler._compile = compile_one


def extensions() -> list[Extension]:
    """The module to build, or none where pybind11 is missing."""
    try:
        import pybind11
    except ImportError:
        print("edgefm: pybind11 is not installed, so the C++ module is not built.", file=sys.stderr)
        return []
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return [
        Extension(
            "edgefm._native",
            SOURCES + ([f"csrc/isa/{name}" for name in ISA_FLAGS] if x86 else []),
            include_dirs=["csrc", pybind11.get_include()],
            depends=[str(path) for path in sorted(Path("csrc").rglob("*")) if path.suffix in (".h", ".inl")],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative})
