"""What is known of a teacher that was loaded before: with all its answers in the cache, it is not loaded again.

Not its answers (`cache.py`) and not their sizes (`sizes.py`). The card lies beside them, CACHE/<hash>.json, called by the hash
of all bytes that `load_model` reads, of its options, and of the libraries' versions. For models that are code there is none
(`models/fingerprint.py`): they are loaded, and let go.
"""

from __future__ import annotations

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import nn

from ..models import LoadedModel, load_model
from ..models.fingerprint import fingerprint
from ..partial import write_atomically
from ..spec.manifest import Ancestor
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from .sizes import full_name, short_name
from .teacher import Teacher


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `LoadedModel` without its module."""

    preprocess: Preprocess
    task: Task
    name: str
    licence: str
    sha256: str
    structure: str
    kind: Literal["torch", "frozen"]
    ancestors: tuple[Ancestor, ...]


def open_teacher(
    source: Any,
    root: Path,
    *,
    device: torch.device,
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    window16: tuple[float, float] | None = None,
) -> Teacher:
    """A teacher that is loaded when it is first asked, where a card in `root` knows it; else one that is loaded now.

    Args:
        root: the cache's folder. device, window16: see `Teacher`. The others: see `models.load_model`.

    Raises:
        InputError: as `load_model`.
    """
    load = partial(load_model, source, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    hashed = fingerprint(source)
    card = None
    if hashed is not None:
        versions = {name: version(name) for name in ("edgefm", "timm", "transformers")}
        card = root / f"{short_name([hashed, tap, licence, window16, versions])}.json"
    known = None if card is None else read_card(card)
    if known is None:
        return Teacher(load(), device=device, tap=tap, window16=window16, card=card)
    return Teacher(known, device=device, tap=tap, window16=window16, card=card, load=load)


def read_card(card: Path) -> LoadedModel | None:
    """What a card says, with an empty module; None if it is not there or not right."""
    try:
        words = json.loads(card.read_bytes())
        if words["sha256"] != full_name([card.name, words["teacher"]]):
            return None
        known = msgspec.convert(words["teacher"], Known)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return LoadedModel(module=nn.Identity(), **{name: getattr(known, name) for name in Known.__struct_fields__})


def write_card(teacher: Teacher) -> None:
    """Keep what is known of a teacher that can have a card, and had none. Raises `InputError` if it cannot be written."""
    if teacher.card is None or teacher.known:
        return
    known = Known(**{name: getattr(teacher.about, name) for name in Known.__struct_fields__})
    words = json.loads(msgspec.json.encode(known))
    found = {"teacher": words, "sha256": full_name([teacher.card.name, words])}
    write_atomically(teacher.card, (json.dumps(found, indent=1) + "\n").encode())
