"""One 16-bit radiograph, 2544 x 3056, to the model's input: EdgeFM in C++ and numpy, numpy + Pillow, OpenCV, `preprocess.onnx`.

Not decoding: the pixels are an array in memory. `difference` is the largest distance to the definition, in units of the data
set's std. OpenCV computes something else: INTER_AREA averages boxes, INTER_CUBIC skips most pixels (it does not antialias).

    python benchmarks/preprocess.py [--runs 60]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import alternate, ratio, save
from PIL import Image

from edgefm.errors import InputError
from edgefm.runtime.preprocess import Preprocessor, corner, native, prepare, resized
from edgefm.spec.preprocess import Preprocess

SIZE = (2544, 3056)
SPEC = Preprocess(window16=(1000.0, 50000.0))
LIMIT, AT_LEAST = 8.0, 3.0  # ms; times as fast as numpy + Pillow
MEAN, STD = (np.array(v, np.float32)[:, None, None] for v in (SPEC.mean, SPEC.std))
TALL, WIDE = resized(SPEC, *SIZE)
TOP, LEFT = corner(TALL, SPEC.size), corner(WIDE, SPEC.size)


def radiograph() -> np.ndarray:
    """Uint16 `[2544, 3056]`: a bright oval with ribs, an over-exposed border and noise."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    body = 40000 * np.exp(-2 * (x * x + 1.3 * y * y)) * (1 + 0.2 * np.sin(25 * y + 3 * x))
    body += np.random.default_rng(0).normal(4000, 800, SIZE)
    body[:, :60] = 65535
    return np.clip(body, 0, 65535).astype(np.uint16)


def windowed(pixels: np.ndarray) -> np.ndarray:
    low, high = (np.float32(value) for value in SPEC.window16)
    return np.clip((pixels.astype(np.float32) - low) / (high - low), 0, 1)


def finish(resized_pixels: np.ndarray) -> np.ndarray:
    x = np.clip(resized_pixels[TOP : TOP + SPEC.size, LEFT : LEFT + SPEC.size], 0, 1)
    return (x[None] - MEAN) / STD


def by_pillow(pixels: np.ndarray) -> np.ndarray:
    return finish(np.asarray(Image.fromarray(windowed(pixels)).resize((WIDE, TALL), Image.Resampling.BICUBIC)))


def contenders(threads: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name to function; those whose library is missing are left out."""
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "numpy + Pillow": by_pillow,
        "edgefm numpy": lambda pixels: prepare(pixels, SPEC),
    }
    if native is not None:
        found["edgefm native, 1 thread"] = Preprocessor(SPEC, threads=1)
        found["edgefm native, 2 threads"] = Preprocessor(SPEC, threads=2)
        for cap in ("scalar", "avx2"):
            os.environ["EDGEFM_ISA"] = cap
            found[f"edgefm native capped to {cap}, 1 thread"] = Preprocessor(SPEC, threads=1)
        del os.environ["EDGEFM_ISA"]
    try:
        import cv2
    except ImportError:
        pass
    else:
        cv2.setNumThreads(threads)
        for name, kind in (("INTER_AREA", cv2.INTER_AREA), ("INTER_CUBIC", cv2.INTER_CUBIC)):
            found[f"OpenCV {name}, window first"] = lambda p, k=kind: finish(
                cv2.resize(windowed(p), (WIDE, TALL), interpolation=k)
            )
            found[f"OpenCV {name}, uint16 first"] = lambda p, k=kind: finish(
                windowed(cv2.resize(p, (WIDE, TALL), interpolation=k))
            )
    try:
        import onnxruntime

        from edgefm.export.preprocess_graph import build_preprocess_graph
    except ImportError:
        pass
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(build_preprocess_graph(SPEC).SerializeToString(), options)
        bits = np.array(16, np.int64)
        found["preprocess.onnx in ONNX Runtime"] = lambda p: session.run(None, {"pixels": p[:, :, None], "bits": bits})[0][0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    if native is None:
        raise InputError("EdgeFM's C++ module is not built here", do="run: python setup.py build_ext --inplace")
    pixels = radiograph()
    functions = contenders(threads=2)
    definition = prepare(pixels, SPEC)
    difference = {name: round(float(np.abs(f(pixels) - definition).max()), 7) for name, f in functions.items()}
    times = alternate({name: lambda f=f: f(pixels) for name, f in functions.items()}, runs)
    one, two, pillow = (times[name] for name in ("edgefm native, 1 thread", "edgefm native, 2 threads", "numpy + Pillow"))
    result: dict[str, Any] = {
        "task": "uint16 [2544, 3056]: window, bicubic 224, crop, normalise to float32 [3, 224, 224]",
        "isa": Preprocessor(SPEC).isa,
        "threads_of_the_others": 2,
        "milliseconds": {
            name: {**timing._asdict(), "difference": difference[name], "times_native_1_thread": ratio(timing, one)}
            for name, timing in times.items()
        },
        "pillow_to_native": {"1 thread": ratio(pillow, one), "2 threads": ratio(pillow, two)},
        "limits": {"milliseconds": LIMIT, "pillow_to_native": AT_LEAST},
        "holds": {
            f"{threads} thread(s)": timing.p50 <= LIMIT and ratio(pillow, timing) >= AT_LEAST
            for threads, timing in ((1, one), (2, two))
        },
    }
    save("preprocess", result)


if __name__ == "__main__":
    main()
