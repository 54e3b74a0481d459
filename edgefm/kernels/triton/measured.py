"""The blocks of Triton's kernels that were measured on this card, in a file of the user's cache; where there are none, the
tables of the kernels' modules hold.

Not the measuring (`tune.py`). Other blocks sum in another order, so answers may differ in their last bits: a training run takes
those that it finds at its start, and keeps them (`only`).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from ...runtime.cache import cache_folder, store

Blocks = tuple[int, ...]
_held: dict[str, Blocks] = {}
_only: Mapping[str, Blocks] | None = None


def measured(key: str, device: torch.device) -> Blocks | None:
    """The blocks of the kernel and the case that `key` names, on `device`; None where its module's table decides."""
    if key in _held:
        return _held[key]
    return (kept_on(device) if _only is None else _only).get(key)


@contextmanager
def held(blocks: Mapping[str, Blocks]) -> Iterator[None]:
    """In this block these are taken, whatever is in the file."""
    before = dict(_held)
    _held.update(blocks)
    try:
        yield
    finally:
        _held.clear()
        _held.update(before)


@contextmanager
def only(blocks: Mapping[str, Blocks]) -> Iterator[None]:
    """In this block these are taken, and where there is none the table's; nothing is taken from the file."""
    global _only
    before, _only = _only, blocks
    try:
        yield
    finally:
        _only = before


def kept_on(device: torch.device) -> dict[str, Blocks]:
    """What `kept` says of the card `device`; nothing for any other device."""
    return kept(_card(device)) if device.type == "cuda" else {}


@functools.lru_cache(maxsize=16)
def _card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


@functools.lru_cache(maxsize=16)
def kept(card: str) -> dict[str, Blocks]:
    """What the file of that card says; nothing if there is none, if it is damaged, or of other kernels or another Triton."""
    file = _file(card)
    try:
        found = json.loads(file.read_bytes()) if file is not None else {}
        if found.get("made for") != _made_for():
            return {}
        return {key: blocks for key, each in found["blocks"].items() if _fits(blocks := tuple(each))}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError):  # ImportError: Triton is gone
        return {}


def keep(card: str, blocks: Mapping[str, Blocks]) -> Path | None:
    """Write the file of that card; None where the user's cache cannot be used."""
    file = _file(card)
    data = {"card": card, "made for": _made_for(), "blocks": blocks}
    if file is None or not store(file, json.dumps(data, indent=1).encode()):
        return None
    kept.cache_clear()
    return file


def _file(card: str) -> Path | None:
    folder = cache_folder("blocks")
    return None if folder is None else folder / f"{hashlib.sha256(card.encode()).hexdigest()[:12]}.json"


@functools.cache
def _made_for() -> dict[str, str]:
    import triton

    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return {"triton": triton.__version__, "kernels": hashlib.sha256(sources).hexdigest()}


def _fits(blocks: Blocks) -> bool:
    """Whether a kernel could run in them at all: sides and warps are powers of two."""
    *powers, stages = blocks
    whole = all(isinstance(each, int) and each > 0 for each in blocks)
    return whole and all(each & (each - 1) == 0 for each in powers) and stages <= 8
