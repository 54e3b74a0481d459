"""Does a loaded variant compute on this machine what its bundle says it computes? Asked before it takes part in the choice.

Not the parity gate of `export` and not the accuracy gate of `quantize`: those ran when the bundle was built.
"""

from __future__ import annotations

import io

import numpy as np

from ..bundle import Bundle
from ..errors import BundleError, ParityError
from .decide import probabilities
from .engines import Engine, Running
from .preprocess import Preprocessor

# Bounds: of probabilities, and the least cosine of the embedding, or None for its largest difference in standard deviations.
# fp32: probabilities from pixels, and the embedding in units of its standard deviation, as DESIGN's parity gate.
EXACT = 1e-3
# int8 against what its own graph answers, run as it is written: engines fuse, and so round, otherwise. Of trained MobileNets in
# OpenVINO and ONNX Runtime they were within 0.015 and 0.9996.
OWN = 0.05, 0.99
# Native int8 against what it answered where it was built: the same bits, unless another version of it rounds otherwise.
NATIVE = 0.01, 0.999
# bf16, and int8 of bundles without such outputs, differ from the fp32 outputs by what the gate allowed on real images, and by
# more on generated ones. This bound only catches arithmetic that has gone wrong here (saturation, a broken kernel).
GROSS = 0.25, 0.9


def check_golden(
    engine: Engine, bundle: Bundle, precision: Running, variant: str = "", *, most: int | None = None
) -> np.ndarray:
    """Run golden inputs from their pixels and compare: all of them, or the first `most`.

    Args:
        variant: its name. Native int8 is no run of the int8 graph, so it is held to outputs of its own.

    Returns:
        A prepared image, float32 `[1, C, S, S]`: the last golden input, or zeros in a bundle without any.

    Raises:
        ParityError: an output differs; names the input and by how much.
        BundleError: a golden member is no array, or one of another shape than the output.
    """
    spec = bundle.preprocess
    prepare = Preprocessor(spec)
    tensor = np.zeros((1, spec.channels, spec.size, spec.size), np.float32)
    engine(tensor)
    for golden in bundle.manifest.golden[:most]:
        tensor = prepare(_array(bundle, golden.pixels))[None]
        for name, output in engine(tensor).items():
            if name not in golden.outputs:
                continue
            native = variant.startswith("native")
            key = f"{variant if native else precision}.{name}"
            own = key in golden.outputs
            member = golden.outputs[key if own else name]
            expected = _array(bundle, member)[None]
            if expected.dtype != np.float32 or not np.isfinite(expected).all():
                raise BundleError(f"{member} holds {expected.dtype} or values that are not finite", expected="finite float32")
            if expected.shape != output.shape:
                raise BundleError(f"{member} has the shape {list(expected.shape[1:])}", expected=f"{list(output.shape[1:])}")
            bounds = (EXACT, None) if precision == "fp32" else GROSS if not own else NATIVE if native else OWN
            found, allowed = _difference(output, expected, name, bundle, bounds)
            if not found <= allowed:  # NaN is never within
                raise ParityError(
                    f"{name} off by {found:.2g} for the golden input {golden.name}", expected=f"at most {allowed:g}"
                )
    return tensor


def contradiction(engine: Engine, bundle: Bundle, precision: Running, variant: str = "") -> str:
    """How it contradicts the golden outputs, as `check_golden` says it, or "". Raises `BundleError` as that does."""
    try:
        check_golden(engine, bundle, precision, variant)
    except ParityError as error:
        return str(error).rstrip(".")
    return ""


def _difference(
    output: np.ndarray, expected: np.ndarray, name: str, bundle: Bundle, bounds: tuple[float, float | None]
) -> tuple[float, float]:
    """(difference, largest allowed one): of probabilities for logits; of the embedding by its std or by its cosine."""
    probability, cosine = bounds
    if not np.isfinite(output).all():
        return float("nan"), 0.0
    if name == "logits":
        task = bundle.manifest.task
        off = np.abs(probabilities(output, task) - probabilities(expected, task)).max()
        return float(off), probability
    if cosine is None:
        return float(np.abs(output - expected).max() / max(float(expected.std()), 1e-12)), probability
    norms = float(np.linalg.norm(output) * np.linalg.norm(expected))
    return 1.0 - float((output * expected).sum()) / max(norms, 1e-12), 1.0 - cosine


def _array(bundle: Bundle, member: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(io.BytesIO(bytes(bundle.view(member))), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleError(f"{member} is no array of numbers ({error})", expected="an .npy member") from error
    return array
