"""A vision transformer as the native engine's two files, in fp32 or int8: docs/native-format.md.

Not the reading of the model (`native_vit.py`) and no calibration: activations get their scales row by row, on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ..models import LoadedModel
from ..runtime.cpu import usable_threads
from ..spec.manifest import Precision
from .native_pack import pack_fp32, pack_int8, pad
from .native_smooth import smoothed
from .native_vit import Vit, read_vit

FORMAT = 1
ALIGNMENT = 64
EXACT = ("projection", "head")  # always fp32: a thousandth of the work, and the last to err


def native_entries(
    model: LoadedModel, precision: Precision, prefix: str, graph: str = "encoder", *, patch: Precision | None = None
) -> dict[str, bytes]:
    """The variant's files as two bundle entries, `prefix/graph.json` and `prefix/graph.bin`; the same bytes every time.

    Args:
        patch: precision of the patch embedding, by default the variant's.

    Raises:
        InputError: the native engine cannot compute this model.
    """
    vit = read_vit(model)
    if precision == "int8":
        vit = smoothed(vit)
    patch = patch or precision
    description, weights = _Table(), bytearray()
    for name, array in _tensors(vit, precision, patch).items():
        weights += bytes(-len(weights) % ALIGNMENT)
        description.add(name, array, len(weights))
        weights += np.ascontiguousarray(array).tobytes()
    architecture = {**vit.architecture, "precision": precision, "patch_precision": patch}
    document = {"architecture": architecture, "format": FORMAT, "tensors": description.rows}
    return {
        f"{prefix}/{graph}.json": msgspec.json.encode(document, order="sorted"),
        f"{prefix}/{graph}.bin": bytes(weights),
    }


class _Table:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, array: np.ndarray, offset: int) -> None:
        self.rows.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset})


def _tensors(vit: Vit, precision: Precision, patch: Precision) -> Mapping[str, np.ndarray]:
    """Every tensor by its name, in the order in which the engine reads them."""
    found: dict[str, np.ndarray] = {name: pad(rows) if rows.ndim == 1 else rows for name, rows in vit.rows.items() if len(rows)}
    for name, (gamma, beta) in vit.norms.items():
        found |= {f"{name}.gamma": gamma, f"{name}.beta": beta}
    for name, (weight, bias) in vit.linears.items():
        if (patch if name == "patch" else precision) == "int8" and name not in EXACT:
            packed = pack_int8(weight)
            found |= {f"{name}.weight": packed.codes, f"{name}.scale": packed.scale, f"{name}.sum": packed.sum}
        else:
            found[f"{name}.weight"] = pack_fp32(weight)
        if name != "patch":  # its bias is in the positions
            found[f"{name}.bias"] = pad(bias)
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _place(name: str) -> tuple[int, int, str]:
    """Before the layers, the layers by number, behind them."""
    first, _, rest = name.partition(".")
    if first == "layers":
        return 1, int(rest.partition(".")[0]), name
    return (2 if first in ("final_norm", *EXACT) else 0), 0, name


def execute_native(description: bytes, weights: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the two files answer on this machine: "logits" `[N, K]` where there are any, and "embedding" `[N, D]`.

    Args:
        images: prepared, float32 `[N, C, S, S]`.
    """
    from edgefm import _native

    room = np.empty(len(weights) + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    room[start : start + len(weights)] = np.frombuffer(weights, np.uint8)
    encoder = _native.Encoder(description, room[start : start + len(weights)], threads=usable_threads(), images=1)
    logits, embedding, _ = encoder.run(images)
    return {"embedding": embedding} if logits is None else {"logits": logits, "embedding": embedding}
