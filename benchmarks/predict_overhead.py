"""What `predict` on an array costs over the plain engine's inference on a prepared tensor plus the preprocessing.

Not a comparison of engines: each is compared with itself, called plainly with the same settings and threads.

    python benchmarks/predict_overhead.py [--bundle FILE.efm] [--runs 60]

Without --bundle the DenseNet-121 teacher of the test data (EDGEFM_TEST_DATA) is exported. Plain ONNX Runtime keeps its default,
threads that spin while they wait, and is also timed without, as EdgeFM runs it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import alternate, ratio, save

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
LIMIT = 1.10
EXPORT = "import sys, edgefm; edgefm.export(sys.argv[1], sys.argv[2])"
IMAGES = {
    "224x224 u8": ((224, 224), np.uint8),
    "1024x1024 u8": ((1024, 1024), np.uint8),
    "2544x3056 u16": ((2544, 3056), np.uint16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or Path(folder, "densenet.efm")
        if options.bundle is None:
            teacher = DATA / "teachers" / "densenet121_cxr"
            subprocess.run([sys.executable, "-c", EXPORT, teacher, bundle], check=True, cwd=ROOT)
        results = {name: measure(name, bundle, options, Path(folder)) for name in ("onnx-fp32", "openvino-fp32")}
    save("predict_overhead", {"threads": options.threads, "limit": LIMIT, "variants": results})


def measure(variant: str, bundle: Path, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Per image size: p50 and p95 of each contender in turn, and predict over (plain inference + preprocessing)."""
    import edgefm

    results: dict[str, Any] = {}
    random = np.random.default_rng(0)
    with edgefm.Session(bundle, variant=variant, threads=options.threads) as session:
        for name in session.bundle.names():
            if name.startswith(f"variants/{variant}/"):
                Path(work, name).parent.mkdir(parents=True, exist_ok=True)
                Path(work, name).write_bytes(session.bundle.view(name))
        make = plain_onnx if variant == "onnx-fp32" else plain_openvino
        tensor = session.prepare(random.integers(0, 256, (300, 300), np.uint8))[None]
        plain = make(work / "variants" / variant, options.threads, tensor)
        for label, (shape, dtype) in IMAGES.items():
            pixels = random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
            contenders: dict[str, Callable[[], object]] = {
                "predict": lambda pixels=pixels: session.predict(pixels),
                "preprocessing": lambda pixels=pixels: session.prepare(pixels),
                **plain,
            }
            found = alternate(contenders, options.runs, warmup=5)
            best = min((name for name in plain), key=lambda name: found[name].p50)
            allowed = found[best]._replace(p50=found[best].p50 + found["preprocessing"].p50)
            results[label] = {
                **{name: value._asdict() for name, value in found.items()},
                "best_plain": best,
                "predict_over_plain_and_preprocessing": ratio(found["predict"], allowed),
                "holds": found["predict"].p50 <= LIMIT * found[best].p50 + found["preprocessing"].p50,
            }
    return results


def plain_onnx(folder: Path, threads: int, tensor: np.ndarray) -> dict[str, Callable[[], object]]:
    import onnxruntime

    def session(spin: str) -> Callable[[], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        loaded = onnxruntime.InferenceSession(folder / "encoder.onnx", options, providers=["CPUExecutionProvider"])
        return lambda: loaded.run(None, {"images": tensor})

    return {"plain onnx": session("1"), "plain onnx without spinning": session("0")}


def plain_openvino(folder: Path, threads: int, tensor: np.ndarray) -> dict[str, Callable[[], object]]:
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "encoder.xml")
    model.reshape(list(tensor.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return {"plain openvino": lambda: request.infer([tensor], share_inputs=True)}


if __name__ == "__main__":
    main()
