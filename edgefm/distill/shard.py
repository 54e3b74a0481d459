"""One file of a teacher's answers: written whole or not at all, and not read unless every byte of it is right.

Not the choice of what is asked (`cache.py`). A safetensors file with one metadata key:

    NAME          float16 (or float32), a row per image
    NAME.scale    float32 [N], beside float16: the power of two that each row was divided by
    metadata      {"key": of the cache, "part": of it, "sha256": over the tensors}

float16 ends at 65504, and below 6e-5 it gets coarse. Divided by a power of two, the largest number of a row becomes 2^14 to
2^15: nothing overflows, and all down to 2^-28 of it keeps eleven bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError
from ..partial import write_atomically

Tensors = dict[str, torch.Tensor]
Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]  # name to dtype and shape without the rows


def pack(name: str, rows: torch.Tensor) -> Tensors:
    """Float32 `[N, ...]`, finite, as float16 and the scale of each row."""
    top = rows.flatten(1).abs().amax(dim=1)
    scale = torch.ldexp(torch.ones_like(top), (torch.frexp(top).exponent - 15).clamp_min(-100))
    return {name: (rows / scale.reshape(-1, *[1] * (rows.ndim - 1))).half(), f"{name}.scale": scale}


def unpack(tensors: Tensors, name: str, rows: torch.Tensor) -> torch.Tensor:
    """Some rows as float32 again. rows: int64 `[B]`."""
    found = tensors[name][rows].float()
    scale = tensors.get(f"{name}.scale")
    return found if scale is None else found * scale[rows].reshape(-1, *[1] * (found.ndim - 1))


def packed(name: str, shape: tuple[int, ...]) -> Layout:
    """What `pack` makes of rows of that shape."""
    return {name: (torch.float16, shape), f"{name}.scale": (torch.float32, ())}


def row_bytes(layout: Layout) -> int:
    """Bytes that one image takes."""
    return sum(dtype.itemsize * torch.Size(shape).numel() for dtype, shape in layout.values())


def write_shard(path: Path, tensors: Tensors, *, key: str, part: str) -> None:
    """Write beside, flush, rename. Raises `InputError` naming the file if it cannot be written; then there is none."""
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in tensors.items()}
    # One metadata key: safetensors writes several in random order.
    words = json.dumps({"key": key, "part": part, "sha256": _digest(tensors)}, sort_keys=True)
    try:
        write_atomically(path, save(tensors, {"edgefm": words}))
    except InputError as error:
        raise InputError(error.found, do="free some space, or choose another folder with --cache") from error


def read_shard(path: Path, *, key: str, part: str, rows: int, layout: Layout, whole: bool) -> Tensors | None:
    """The tensors, mapped into memory and read when they are used; None if the file is not there or not right.

    Args:
        key, part: what it must say of itself. rows, layout: what it must hold.
        whole: compare every byte with the SHA-256, else the header and the length only.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            words = json.loads((file.metadata() or {})["edgefm"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    right = {name: (dtype, (rows, *shape)) for name, (dtype, shape) in layout.items()}
    if not isinstance(words, dict) or (words.get("key"), words.get("part")) != (key, part):
        return None
    if {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()} != right:
        return None
    return tensors if not whole or words.get("sha256") == _digest(tensors) else None


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
