"""Golden inputs: generated pictures and what the fp32 model makes of them, stored in the bundle. Never anybody's picture.

Not the comparison (`verify/parity.py`): here the pictures are drawn and the model is asked once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ..models import LoadedModel
from ..runtime.preprocess import prepare
from ..spec.manifest import Golden
from ..spec.preprocess import Preprocess
from ..verify.parity import Expected

LARGEST_PREPARED = 1 << 20  # bytes of the one prepared tensor that is kept for readers in other languages


def golden(model: LoadedModel) -> tuple[Expected, ...]:
    """The pictures with the outputs of the torch model, fp32, one by one, on the CPU.

    Preparation is the numpy oracle's. `model.module` is left as it was found.
    """
    found = []
    for name, pixels in pictures(model.preprocess).items():
        prepared = prepare(pixels, model.preprocess)
        found.append(Expected(name=name, pixels=pixels, prepared=prepared, outputs=reference(model, prepared[None], one=True)))
    return tuple(found)


def reference(model: LoadedModel, batch: np.ndarray, *, one: bool = False) -> dict[str, np.ndarray]:
    """The torch model's outputs for prepared images, in fp32 on the CPU: what every engine is held to.

    Args:
        batch: float32 `[N, C, S, S]`. one: N is 1, and the outputs come without the batch dimension.

    Returns:
        "logits" float32 `[N, K]` unless the task is an embedding, "embedding" float32 `[N, D]`.
    """
    with torch.no_grad():
        outputs = model.module(torch.from_numpy(batch))
    kept = {} if model.task.kind == "embedding" else {"logits": outputs.logits}
    kept["embedding"] = outputs.embedding
    return {name: (rows[0] if one else rows).float().numpy() for name, rows in kept.items()}


def golden_entries(found: Sequence[Expected]) -> tuple[tuple[Golden, ...], dict[str, bytes]]:
    """The manifest's list and the `.npy` members. "prepared" is stored for the first picture only, if it is not large."""
    listed, entries = [], {}
    for index, picture in enumerate(found):
        outputs = dict(picture.outputs)
        if index == 0 and picture.prepared.nbytes <= LARGEST_PREPARED:
            outputs["prepared"] = picture.prepared
        names = {name: f"golden/{picture.name}.{name}.npy" for name in sorted(outputs)}
        pixels = f"golden/{picture.name}.pixels.npy"
        entries.update({names[name]: npy(outputs[name]) for name in names}, **{pixels: npy(picture.pixels)})
        listed.append(Golden(name=picture.name, pixels=pixels, outputs=names))
    return tuple(listed), entries


def pictures(spec: Preprocess) -> dict[str, np.ndarray]:
    """The generated pictures by name: gradients, noise and shadows; sizes that make every resize round differently.

    16-bit pictures span the model's window and a tenth of it beyond each end.
    """
    kinds: Mapping[str, Callable[[int, int, int], np.ndarray]] = {"shadows": _shadows, "gradient": _gradient, "noise": _noise}
    made = {}
    for kind, height, width, channels, bits in (
        ("shadows", 223, 225, 1, 16),
        ("shadows", 224, 224, 1, 8),
        ("noise", 100, 150, 3, 8),
        ("gradient", 100, 150, 3, 16),
        ("noise", 100, 150, 4, 8),
        ("gradient", 8, 3000, 1, 8),
        ("noise", 8, 3000, 3, 16),
        ("gradient", 1, 1, 1, 8),
        ("gradient", 1, 1, 3, 16),
    ):
        unit = kinds[kind](height, width, channels)  # 0 to 1
        if bits == 8:
            pixels = np.rint(255 * unit).astype(np.uint8)
        else:
            low, high = spec.window16
            raw = low + (high - low) * (1.2 * unit - 0.1)
            pixels = np.rint(np.clip(raw, 0, 65535)).astype(np.uint16)
        colour = {1: "grey", 3: "rgb", 4: "rgba"}[channels]
        made[f"{kind}-{height}x{width}-{colour}{bits}"] = pixels[:, :, 0] if channels == 1 else pixels
    return made


def _gradient(height: int, width: int, channels: int) -> np.ndarray:
    """A ramp from corner to corner, turned by a third of its range from channel to channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    ramp = (rows / height + columns / width)[:, :, None] / 2 + 0.25 + np.arange(channels) / 3
    return np.asarray(ramp % 1.0)


def _noise(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height, width, channels)) / 255


def _shadows(height: int, width: int, channels: int) -> np.ndarray:
    """Bright and dark ellipses on a slope, roughly the grey values of a chest radiograph."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = rows / height, columns / width
    value = 0.35 + 0.3 * y
    for cy, cx, ry, rx, depth in ((0.5, 0.3, 0.35, 0.16, -0.3), (0.5, 0.7, 0.35, 0.16, -0.3), (0.62, 0.56, 0.2, 0.14, 0.35)):
        value = value + depth * np.exp(-((((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2) ** 2))
    value = value + 0.04 * np.sin(40 * y)
    return np.repeat(np.clip(value, 0, 1)[:, :, None], channels, axis=2)


def npy(array: np.ndarray) -> bytes:
    """The bytes of an `.npy` member."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
