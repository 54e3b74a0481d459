"""Builds `edgefm._native`, one C++ unit per instruction set with its own flags; without a compiler EdgeFM installs anyway.

Not the project's metadata: that is in pyproject.toml.

    EDGEFM_CUDA=1           builds `edgefm._cuda` too, with nvcc; without nvcc that is an error, since it was asked for
    EDGEFM_CUDA_ARCHS="90"  only for these compute capabilities (default: all of CUDA_ARCHS, and PTX of the last)
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
CUDA_ARCHS = "75 80 86 89 90 120"
CUDA_UNITS = ("attention.cu", "lora_linear.cu", "bindings.cpp")


def units() -> tuple[list[str], dict[str, list[str]]]:
    """The flags of all C++ units, and for each unit of this processor's module its own, as `csrc/flags.txt` lists them."""
    flags, own = [], {}
    mine = ("both", "python", PROCESSORS.get(platform.machine().lower()))
    for line in Path("csrc/flags.txt").read_text().splitlines():
        who, *rest = line.split() or ["#"]
        if who == "flags":
            flags = rest
        elif who in mine:
            own[f"csrc/{rest[0]}"] = rest[1:]
    return flags, own


class BuildNative(build_ext):
    """Adds the flags of its instruction set to each unit, and reports a failure instead of stopping at it."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == "edgefm._cuda":
            return self.build_cuda(ext)
        compile_one = self.compiler._compile
        _, own = units()

        def compile_with_own_flags(obj, src, suffix, cc_args, extra, pp_opts):  # type: ignore[no-untyped-def]
            compile_one(obj, src, suffix, cc_args, extra + own[src], pp_opts)

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
        return None

    def build_cuda(self, ext: Extension) -> None:
        """Every unit with nvcc, and the link with it too: it knows where its static runtime lies."""
        out, objects = Path(self.get_ext_fullpath(ext.name)).resolve(), []
        build = Path(self.build_temp).resolve() / "cuda"
        build.mkdir(parents=True, exist_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        for name in CUDA_UNITS:
            objects.append(str(build / f"{name}.o"))
            flags = ["-std=c++17", "-O3", "--threads", "0", "-Xcompiler", "-fPIC,-fvisibility=hidden", *cuda_targets()]
            include = [f"-I{folder}" for folder in ext.include_dirs]
            self.spawn(["nvcc", *flags, *include, "-c", f"csrc/cuda/{name}", "-o", objects[-1]])
        self.spawn(["nvcc", "-shared", "-cudart", "static", *cuda_targets(), *objects, "-o", str(out)])


def cuda_targets() -> list[str]:
    """nvcc's flags: machine code for each compute capability, and PTX of the last for cards to come."""
    archs = os.environ.get("EDGEFM_CUDA_ARCHS", CUDA_ARCHS).split()
    if not archs or not all(arch.isdecimal() for arch in archs):
        sys.exit(f'edgefm: EDGEFM_CUDA_ARCHS must be compute capabilities without a dot, such as "{CUDA_ARCHS}".')
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return [*targets, f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"]


def cuda_extension(include: str) -> list[Extension]:
    """The CUDA module where it is asked for. Exits with a message where there is no nvcc, or one that lacks an architecture."""
    if os.environ.get("EDGEFM_CUDA", "0") in ("", "0"):
        return []
    if shutil.which("nvcc") is None:
        sys.exit("edgefm: EDGEFM_CUDA is set, but nvcc is not on the PATH. Install the CUDA toolkit, or unset EDGEFM_CUDA.")
    known = subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    lacking = [arch for arch in os.environ.get("EDGEFM_CUDA_ARCHS", CUDA_ARCHS).split() if f"compute_{arch}" not in known]
    if lacking:
        sys.exit(f"edgefm: this nvcc does not know {', '.join(lacking)}. Name fewer in EDGEFM_CUDA_ARCHS, or use CUDA 13.0.")
    return [
        Extension(
            "edgefm._cuda",
            [f"csrc/cuda/{name}" for name in CUDA_UNITS],
            include_dirs=["csrc/cuda", include, sysconfig.get_path("include")],
            depends=[str(path) for path in sorted(Path("csrc/cuda").iterdir())],
            language="c++",
        )
    ]


def extensions() -> list[Extension]:
    """The module to build, or none where pybind11 is missing."""
    try:
        import pybind11
    except ImportError:
        if os.environ.get("EDGEFM_CUDA", "0") not in ("", "0"):
            sys.exit("edgefm: EDGEFM_CUDA is set, but pybind11 is not installed. Install it, or unset EDGEFM_CUDA.")
        print("edgefm: pybind11 is not installed, so the C++ module is not built.", file=sys.stderr)
        return []
    flags, own = units()
    return [
        Extension(
            "edgefm._native",
            list(own),
            include_dirs=["csrc", pybind11.get_include()],
            depends=[str(path) for path in sorted(Path("csrc").rglob("*")) if path.suffix in (".h", ".inl", ".txt")],
            extra_compile_args=flags,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        ),
        *cuda_extension(pybind11.get_include()),
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative})
