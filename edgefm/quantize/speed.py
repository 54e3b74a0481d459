"""How long one image takes, each way to run the model in turn, and which is the fastest here, in a sentence.

Not the device's choice: every device times the variants for itself (`runtime/select.py`). This is evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..bench.latency import Timing, alternate, timed, timing
from ..verify.parity import Predictor

ROUNDS = 30
EQUAL = 1.05  # times that differ by less are not told apart


def speeds(predictors: Mapping[str, Predictor], prepared: np.ndarray) -> dict[str, Timing]:
    """Milliseconds of each.

    Args:
        predictors: name to a function of float32 `[1, C, S, S]`. prepared: one image, as they take it.
    """
    calls = {name: timed(lambda predict=predict: predict(prepared)) for name, predict in predictors.items()}  # type: ignore[misc]
    return {name: timing(taken) for name, taken in alternate(calls, ROUNDS).items()}


def fastest(milliseconds: Mapping[str, float], *, accurate: bool) -> str:
    """Which way to run the model is the fastest on this machine, as a sentence; "" where there is nothing to compare.

    Args:
        milliseconds: name to median, of variants, and of "openvino-bf16" where a device may choose it.
        accurate: whether the gate says yes to int8.
    """
    ranking = sorted(milliseconds, key=milliseconds.__getitem__)
    small = [name for name in ranking if name.endswith("int8")]
    if not small or len(ranking) == len(small):
        return ""
    if ranking[0] in small:
        others = ", ".join(f"{name} {milliseconds[name]:.3g}" for name in ranking[1:])
        said = f"fastest here: {ranking[0]} takes {milliseconds[ranking[0]]:.3g} ms an image ({others})"
    else:
        slow = "slower" if milliseconds[small[0]] > EQUAL * milliseconds[ranking[0]] else "no faster"
        what = f"int8 is accurate but {slow} here" if accurate else f"int8 is {slow} here, too"
        said = f"{what}: {small[0]} takes {milliseconds[small[0]]:.3g} ms an image, {ranking[0]} {milliseconds[ranking[0]]:.3g}"
    return f"{said}; each device times them for itself"
