"""What this machine can do: processor, engines, compiled module, extras, folders.

Not a benchmark and not a cure: it says what is missing and the line that gets it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError, MissingExtra

INSTRUCTION_SETS = (
    "sse4_2",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "sha_ni",
)
ARM_INSTRUCTION_SETS = ("asimd", "asimddp", "i8mm", "sha2")
SENTENCES = {
    "openvino": "run bundles on OpenVINO (Intel and AMD: usually the fastest)",
    "onnx": "run bundles on ONNX Runtime (small, starts fastest)",
    "verify": "metrics and figures",
    "compress": "distil, quantize, export: the workstation",
    "gpu": "fused kernels for training on NVIDIA cards",
    "dicom": "read DICOM files",
    "tensorboard": "curves of a training in TensorBoard, beside metrics.jsonl",
}


def examine() -> dict[str, Any]:
    """Everything `edgefm doctor` tells, as plain values (see `api.doctor`)."""
    from .bench.machine import memory_gib

    engines = {"openvino": _openvino(), "onnx": _onnxruntime(), "native": _own_engine()}
    return {
        "edgefm": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "memory_gib": memory_gib(),
        "gpus": _gpus(),
        "kernels": _kernels(),
        "blocks": _blocks(),
        "native": _native(),
        "engines": engines,
        "extras": {name: _extra(name, wanted) for name, wanted in extras().items()},
        "cache": _cache(),
        "can_run": any(engine["version"] for name, engine in engines.items() if name != "native"),  # any bundle, that is
    }


def _cpu() -> dict[str, Any]:
    from .runtime.cpu import cpu_features, cpu_name, machine_id, usable_threads

    features = cpu_features()
    names = ARM_INSTRUCTION_SETS if platform.machine() in ("aarch64", "arm64") else INSTRUCTION_SETS
    return {
        "name": cpu_name(),
        "threads": usable_threads(),
        "logical": os.cpu_count(),
        "has": [name for name in names if features.get(name)],
        "lacks": [name for name in names if not features.get(name)],
        "machine_id": machine_id(),
    }


def _gpus() -> list[str]:
    """NVIDIA cards as their driver names them; no library is loaded for it."""
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        model = re.search(r"Model:\s*(.+)", file.read_text(errors="replace"))
        found.append(model[1].strip() if model else "NVIDIA card")
    return found


def _kernels() -> dict[str, dict[str, str]]:
    """Which implementation of each training kernel runs here, and why; empty without torch. torch is loaded for it.

    Where EDGEFM_KERNELS asks for what cannot be, each entry says so: whoever asks the doctor wants to know it."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    from .kernels.select import IMPLEMENTED, table

    try:
        choices = table(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    except InputError as error:  # what EDGEFM_KERNELS asks for
        return {operator: {"backend": "none", "reason": str(error)} for operator in IMPLEMENTED}
    return {each.operator: {"backend": each.backend, "reason": each.reason} for each in choices}


def _blocks() -> dict[str, int] | None:
    """Of Triton's kernels on this card: how many have blocks that `tune_kernels` found; None where they do not run."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "triton")):
        return None
    import torch

    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return None
    from .kernels.triton.measured import kept

    return {"measured": len(kept(torch.cuda.get_device_name()))}


def tune_kernels() -> None:
    """Measure the blocks of Triton's kernels on this card and keep the fastest.

    Raises:
        InputError: there is no card that they run on. MissingExtra: torch or Triton is not installed.
    """
    for name, extra in (("torch", "compress"), ("triton", "gpu")):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(name, extra, "tuning the GPU kernels")
    import torch

    from .kernels.triton.tune import tune

    tune(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _native() -> dict[str, Any]:
    """The compiled module: present, or why not."""
    try:
        from . import _native
    except ImportError as error:
        built = any(Path(__file__).parent.glob("_native*.so"))
        why = (
            f"it does not load ({error})" if built else "it was not built: no C++ compiler was there when EdgeFM was installed"
        )
        do = "install a C++ compiler (Debian: apt install g++ python3-dev), then reinstall EdgeFM; all works without it, slower"
        return {"present": False, "why": why, "do": do}
    return {"present": True, "file": Path(_native.__file__).name}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(extra: str) -> str:
    return f"pip install 'edgefm[{extra}]'"


def _openvino() -> dict[str, Any]:
    engine: dict[str, Any] = {"version": _version("openvino"), "precisions": [], "do": None}
    if engine["version"] is None:
        return engine | {"do": _pip("openvino")}
    try:
        from .runtime.engines.openvino import core

        capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # whatever a broken installation raises is the finding
        return engine | {"version": None, "do": f"it does not load ({error}); reinstall it: {_pip('openvino')}"}
    return engine | {"precisions": [name for name in ("FP32", "BF16", "INT8") if name in capabilities]}


def _onnxruntime() -> dict[str, Any]:
    engine: dict[str, Any] = {"version": _version("onnxruntime"), "precisions": [], "do": None}
    if engine["version"] is None:
        return engine | {"do": _pip("onnx")}
    try:
        import onnxruntime  # noqa: F401
    except Exception as error:  # as above
        return engine | {"version": None, "do": f"it does not load ({error}); reinstall it: {_pip('onnx')}"}
    return engine | {"precisions": ["FP32", "INT8"]}


def _own_engine() -> dict[str, Any]:
    """EdgeFM's own engine, which runs vision transformers only."""
    native = _native()
    if not native["present"]:
        return {"version": None, "precisions": [], "do": native["do"]}
    from . import _native as module

    return {"version": f"{__version__} on {module.best_table()}", "precisions": ["FP32", "INT8"], "do": None}


def extras() -> dict[str, list[str]]:
    """Each extra that a verb of this version uses, with the distributions it asks for; empty for a checkout not installed."""
    try:
        lines = importlib.metadata.requires("edgefm") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {name: [] for name in SENTENCES}
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and extra and extra[1] in found and name[0] != "edgefm":
            found[extra[1]].append(name[0])
    found["compress"] += found["verify"]
    return found


def _extra(name: str, wanted: list[str]) -> dict[str, Any]:
    missing = [each for each in wanted if _version(each) is None]
    return {"for": SENTENCES[name], "missing": missing, "do": _pip(name) if missing else None}


def _cache() -> dict[str, Any]:
    from .runtime.cache import cache_folder

    folder = cache_folder()
    return {"folder": None if folder is None else str(folder), "writable": folder is not None}


def describe(found: dict[str, Any]) -> list[str]:
    """The findings as lines for a person."""
    cpu, memory, native = found["cpu"], found["memory_gib"], found["native"]
    lines = [
        _row("EdgeFM", f"{found['edgefm']} on Python {found['python']}, {found['system']}"),
        _row("processor", f"{cpu['name']}; {cpu['threads']} of {cpu['logical']} threads may be used"),
        _row("instructions", " ".join(cpu["has"]) + (f"   (lacks {' '.join(cpu['lacks'])})" if cpu["lacks"] else "")),
        _row("memory", f"{memory['total']} GiB" + (f", limited to {memory['limit']} GiB" if memory["limit"] else "")),
        *[_row("GPU", name) for name in found["gpus"]],
        *[_row("kernel", f"{name}: {each['backend']} ({each['reason']})") for name, each in found["kernels"].items()],
        *([] if found["blocks"] is None else [_row("blocks", _measured(found["blocks"]["measured"]))]),
        _row("compiled module", "present" if native["present"] else f"missing: {native['why']}"),
        *([] if native["present"] else [_row("", native["do"])]),
    ]
    for name, engine in found["engines"].items():
        lines.append(
            _row(
                name,
                f"{engine['version']}: {', '.join(engine['precisions'])}" if engine["version"] else f"missing: {engine['do']}",
            )
        )
    folder = found["cache"]["folder"]
    lines.append(_row("cache", folder if folder else "no writable folder: variants are timed anew in each process"))
    lines += ["", "Extras"] if found["extras"] else ["", "Extras: unknown, because EdgeFM is not installed by pip here"]
    for name, extra in found["extras"].items():
        state = f"missing {', '.join(extra['missing'])}: {extra['do']}" if extra["missing"] else "complete"
        lines.append(_row(f"[{name}]", f"{extra['for']}: {state}"))
    verdict = (
        "This machine can run .efm files." if found["can_run"] else f"No engine is installed: {_pip('onnx')} is the smallest."
    )
    return [*lines, "", verdict]


def _measured(count: int) -> str:
    return f"{count} measured on this card" if count else "from tables: edgefm doctor --tune measures them on this card"


def _row(label: str, text: str) -> str:
    return f"{label:16} {text}"
