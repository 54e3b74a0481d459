"""EdgeFM's native engine against OpenVINO, ONNX Runtime and torch: whole vision transformers, random weights, in turn.

Not accuracy (tests/native, and `quantize`'s gate), and not single kernels. OpenVINO runs with static shapes and its latency
hint, in f32, in bf16 where there is one, and NNCF's int8 with its settings for transformers; ONNX Runtime in fp32, the same
int8 graph, and its own dynamic int8; torch in fp32.

    python benchmarks/native_vit.py [--rows ViT-S/197,…] [--threads 2,1] [--batches 1,8] [--runs 40] [--quick]

Each call comes after a pause of PAUSE seconds, since threads of ONNX Runtime and torch spin for a while after theirs, into what
runs next. So all begin as a device does that waits for an image: with threads asleep.

`share` is the share of the measured int8 ceiling (`ceiling.py`, registers only) that the encoder's products reach, and
`phases` is where its time goes, as a share of all threads' time.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from ceiling import ceilings
from measure import alternate, ratio, save

from edgefm import _native
from edgefm.export.native import native_entries
from edgefm.export.onnx import export_onnx
from edgefm.models import LoadedModel
from edgefm.models.encoder import TimmEncoder
from edgefm.models.loaded import task_of
from edgefm.runtime.cpu import cpu_features, runs_bf16
from edgefm.spec.preprocess import Preprocess

Call = Callable[[np.ndarray], Any]
ROWS = {
    "ViT-Ti/197": ("vit_tiny_patch16_224", 224),
    "ViT-S/197": ("vit_small_patch16_224", 224),
    "ViT-B/197": ("vit_base_patch16_224", 224),
    "ViT-S/577": ("vit_small_patch16_384", 384),
    "ViT-S/1370": ("vit_small_patch14_dinov2", 518),
}
AT_LEAST = {"ViT-Ti/197": 1.3, "ViT-S/197": 1.3, "ViT-B/197": 1.3, "ViT-S/1370": 1.4}  # times as fast as the best of OpenVINO
SHARE = 0.62  # of the ceiling, ViT-S at 197 tokens, batch 1
CALIBRATION = 8
PAUSE = 0.05  # seconds


class Row(NamedTuple):
    """A model with what each engine needs: the ONNX graphs, and the native files."""

    model: LoadedModel
    fp32: Any
    int8: Any
    native: dict[str, tuple[bytes, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--threads", default="2,1")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="few runs, no int8 of NNCF")
    parser.add_argument("--name", default="native_vit")
    asked = parser.parse_args()
    runs = 5 if asked.quick else asked.runs
    result: dict[str, Any] = {}
    for name in asked.rows.split(","):
        row = built(*ROWS[name], quick=asked.quick)
        for threads in map(int, asked.threads.split(",")):
            for batch in map(int, asked.batches.split(",")):
                key = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
                result[key] = measured(row, threads, batch, runs, AT_LEAST.get(name))
                print(key, {each: times["p50"] for each, times in result[key]["milliseconds"].items()}, flush=True)
    save(asked.name, {"isa": _native.best_table(), "rows": result})


def built(architecture: str, size: int, *, quick: bool) -> Row:
    """A model with random weights, two classes."""
    torch.manual_seed(0)
    module = timm.create_model(architecture, num_classes=2, img_size=size).eval()
    arguments = {"num_classes": 2, "img_size": size}
    model = LoadedModel(
        module=TimmEncoder(module, architecture=architecture, arguments=arguments).eval(),
        preprocess=Preprocess(size=size, resize_to=size),
        task=task_of(2),
        name=architecture,
        licence="unknown",
        sha256="0" * 64,
    )
    fp32 = export_onnx(model)
    native = {}
    for precision in ("int8", "fp32"):
        description, weights = native_entries(model, precision, "x").values()  # type: ignore[arg-type]
        native[precision] = description, aligned(weights)
    return Row(model, fp32, None if quick else nncf_int8(fp32, size), native)


def nncf_int8(proto: Any, size: int) -> Any:
    """NNCF's int8 as `quantize` makes it, calibrated on noise: only its speed matters here."""
    from edgefm.quantize.nncf import quantize_onnx

    random = np.random.Generator(np.random.PCG64(0))
    pictures = [random.normal(size=(1, 3, size, size)).astype(np.float32) for _ in range(CALIBRATION)]
    return quantize_onnx(proto, pictures)  # type: ignore[arg-type]


def aligned(data: bytes) -> np.ndarray:
    """Unsigned 8-bit `[size]` at a multiple of 64."""
    room = np.empty(len(data) + 64, np.uint8)
    start = -room.ctypes.data % 64
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return room[start : start + len(data)]


def measured(row: Row, threads: int, batch: int, runs: int, at_least: float | None) -> dict[str, Any]:
    """All contenders in turn, the ratios, the share of the ceiling and where the rest goes."""
    torch.set_num_threads(threads)
    spec = row.model.preprocess
    prepared = np.random.Generator(np.random.PCG64(1)).normal(size=(batch, 3, spec.size, spec.size)).astype(np.float32)
    calls = native_calls(row, threads, batch) | openvino_calls(row, threads, batch) | onnx_calls(row, threads)
    calls["torch fp32"] = lambda images: row.model.module(torch.from_numpy(images))
    with torch.no_grad():
        times = alternate({name: lambda call=call: call(prepared) for name, call in calls.items()}, runs, pause=PAUSE)
    native = times["native int8"]
    best = min((name for name in times if name.startswith("OpenVINO")), key=lambda name: times[name].p50)
    ratios = {name: ratio(each, native) for name, each in times.items()}
    found: dict[str, Any] = {
        "milliseconds": {name: each._asdict() for name, each in times.items()},
        "times_native_int8": ratios,
        "best_of_openvino": best,
        "at_least": at_least,
        "holds": None if at_least is None else ratios[best] >= at_least,
    }
    top = ceiling(threads)
    if top is not None:
        operations = 2e-9 * batch * products(row.native["int8"][0])
        found |= {"gop": operations, "ceiling_gop_s": top, "share": round(operations / (native.p50 * 1e-3) / top, 3)}
    return found | {"phases": phases(row, threads, batch, prepared, runs)}


def native_calls(row: Row, threads: int, batch: int) -> dict[str, Call]:
    made = {
        f"native {precision}": _native.Encoder(*files, threads=threads, images=batch) for precision, files in row.native.items()
    }
    return {name: encoder.run for name, encoder in made.items()}


def openvino_calls(row: Row, threads: int, batch: int) -> dict[str, Call]:
    import openvino

    from edgefm.export.openvino import read
    from edgefm.runtime.engines.openvino import core

    ways = [("OpenVINO f32", row.fp32, "f32"), ("OpenVINO int8", row.int8, "f32")]
    if runs_bf16():
        ways += [("OpenVINO bf16", row.fp32, "bf16"), ("OpenVINO int8 + bf16", row.int8, "bf16")]
    found: dict[str, Call] = {}
    for name, proto, hint in ways:
        if proto is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = read(proto, Path(folder))
            model.reshape(_static(model, batch))
            settings = {
                "INFERENCE_PRECISION_HINT": getattr(openvino.Type, hint),
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            request = core().compile_model(model, "CPU", settings).create_infer_request()
        found[name] = lambda images, request=request: request.infer([openvino.Tensor(images, shared_memory=True)])
    return found


def _static(model: Any, batch: int) -> list[int]:
    return [batch, *(dimension.get_length() for dimension in list(model.input(0).partial_shape)[1:])]


def onnx_calls(row: Row, threads: int) -> dict[str, Call]:
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    from edgefm.quantize.unfused import unfused

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    graphs = {"ONNX Runtime fp32": row.fp32.SerializeToString()}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dynamic.onnx"
        quantize_dynamic(row.fp32, target)
        graphs["ONNX Runtime dynamic int8"] = target.read_bytes()
    if row.int8 is not None:
        graphs["ONNX Runtime NNCF int8"] = unfused(row.int8).SerializeToString()
    sessions = {
        name: onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for name, graph in graphs.items()
    }
    return {name: lambda images, each=each: each.run(None, {"images": images}) for name, each in sessions.items()}


def products(description: bytes) -> float:
    """Products of the whole encoder for one image, as its architecture says: nothing is left out of the count that the last
    layer need not compute."""
    import msgspec

    a = msgspec.json.decode(description)["architecture"]
    patches = (a["size"] // a["patch"]) ** 2
    tokens, wide = a["prefix"] + patches, a["heads"] * a["head_width"]
    gates = 2 if a["activation"] == "swiglu" else 1
    linear = 4 * wide * a["width"] + (1 + gates) * a["hidden"] * a["width"]
    layer = tokens * linear + 2 * tokens * tokens * wide
    return float(a["depth"] * layer + patches * a["channels"] * a["patch"] ** 2 * a["width"])


def ceiling(threads: int) -> float | None:
    """GOP/s of so many cores at once, or None where there is no compiler or no VNNI."""
    if not cpu_features().get("avx512_vnni"):
        return None
    try:
        return threads * ceilings()["int8_avx512_vnni"]
    except (OSError, subprocess.CalledProcessError):
        return None


def phases(row: Row, threads: int, batch: int, prepared: np.ndarray, runs: int) -> dict[str, float]:
    """Share of all threads' time by phase; "wait" is at barriers."""
    encoder = _native.Encoder(*row.native["int8"], threads=threads, images=batch)
    seconds = np.zeros((threads, len(_native.ENCODER_PHASES)))
    encoder.run(prepared)
    for _ in range(runs):
        encoder.run(prepared, seconds=seconds)
    return dict(zip(_native.ENCODER_PHASES, (seconds.sum(axis=0) / seconds.sum()).round(3).tolist(), strict=True))


if __name__ == "__main__":
    main()
