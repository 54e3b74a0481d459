"""What a teacher answers: how many logits, how wide an embedding, what grid. Not the answers: `cache.py`.

Kept beside them in `about.json`, so that a teacher that has answered everything need not be asked for this either.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from ..models.attention import Shape, attention_shapes
from ..models.loaded import Attended
from ..partial import write_atomically
from ..train.images import Images
from .teacher import Teacher


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`logits`: K, or None without a classifier. `embedding`: D. `grid`: (D, H, W), or None without one. `attention`: (heads,
    tokens, width of a head) of each layer of a vision transformer.
    """

    logits: int | None
    embedding: int
    grid: tuple[int, int, int] | None
    attention: tuple[Shape, ...]


def short_name(identity: Any) -> str:
    """A folder's name for what JSON can hold: 16 digits of its SHA-256."""
    return full_name(identity)[:16]


def full_name(identity: Any) -> str:
    """SHA-256 of what JSON can hold, as 64 digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def find_sizes(folder: Path, teacher: Teacher, images: Images) -> Sizes:
    """From `folder`/about.json if it is of this teacher, else by asking about one image.

    Raises:
        InputError: the teacher's answer is not finite.
    """
    try:
        card = json.loads((folder / "about.json").read_bytes())
        if card["sha256"] == full_name([teacher.identity, card["sizes"]]):
            return msgspec.convert(card["sizes"], Sizes)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not right: it is written again
    one = images.dataset.of("train")[:1]
    ((_, outputs),) = teacher.ask(images, one, precision=teacher.precision, tokens=True, attention=None)
    assert isinstance(outputs, Attended)
    logits = None if outputs.logits is None or teacher.about.task.kind == "embedding" else outputs.logits.shape[1]
    grid = None
    if outputs.tokens is not None:
        _, width, height, across = outputs.tokens.shape
        grid = (width, height, across)
    return Sizes(logits=logits, embedding=outputs.embedding.shape[1], grid=grid, attention=attention_shapes(outputs))


def write_sizes(folder: Path, teacher: Teacher, sizes: Sizes) -> None:
    """about.json in `folder`, which exists. Raises `InputError` if it cannot be written."""
    words = msgspec.to_builtins(sizes)
    words["grid"] = None if sizes.grid is None else list(sizes.grid)
    card = {
        "name": teacher.about.name,
        "teacher": teacher.identity,
        "sizes": words,
        "sha256": full_name([teacher.identity, words]),
    }
    write_atomically(folder / "about.json", (json.dumps(card, indent=1) + "\n").encode())
