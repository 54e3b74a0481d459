"""What a teacher is asked: which views of which images, and what is kept of each answer. Not the asking: `cache.py`."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from ..spec.recipe import AugmentRecipe
from ..train.images import Images
from .patches import draw_patches
from .shard import Layout, packed
from .sizes import Sizes
from .teacher import Teacher

FORMAT = 1  # of the cache's files; a change of what views or preprocessing make of an image raises it too
ROWS = 512  # images per file: what a killed process has to ask again at most


class Part(NamedTuple):
    """The images whose answers lie in one file. `view`: None for the images as they are. `images`: int64 `[N]`, positions."""

    name: str
    view: int | None
    images: np.ndarray


class Questions:
    """Views 0, 1, … of each image of train, and the images of val as they are.

    Args:
        sizes: of the teacher's answers.
        views: how many. patches: kept of each view's grid of features; 0 for none. attention: names of what is
            kept of its attention layers, see `models/attention.py`. val: whether those of val are asked about.
        seed, augment: of the views and patches. frame: of multi-frame files.

    Attributes:
        views: the parts of each view. val: the parts of val.
    """

    def __init__(
        self,
        teacher: Teacher,
        sizes: Sizes,
        images: Images,
        *,
        views: int,
        patches: int,
        attention: tuple[str, ...] = (),
        val: bool = True,
        seed: int,
        augment: AugmentRecipe,
        frame: int | None,
    ) -> None:
        self.teacher, self.sizes, self.dataset = teacher, sizes, images.dataset
        self.seed, self.augment, self.frame = seed, augment, frame
        self.patches = 0 if sizes.grid is None else min(patches, sizes.grid[1] * sizes.grid[2])
        self.attention = attention
        dataset = images.dataset
        train, of_val = (np.flatnonzero(dataset.splits == split) for split in ("train", "val"))
        self._place = np.full(len(dataset), -1, np.int64)
        self._place[train] = np.arange(len(train))
        self.views = [_parts(f"view-{view}", view, train) for view in range(views)]
        self.val = _parts("val", None, of_val) if val else []

    @cached_property
    def key(self) -> dict[str, Any]:
        """All that the answers depend on, as JSON can hold it, but for the number of views. Reads every image file once."""
        return {
            "format": FORMAT,
            **self.teacher.identity,
            "precision": self.teacher.precision,
            "images": self.dataset.images_sha256(),
            "frame": self.frame,
            "augment": msgspec.to_builtins(self.augment),
            "seed": self.seed,
            "patches": self.patches,
        } | ({"attention": list(self.attention)} if self.attention else {})

    @property
    def parts(self) -> list[Part]:
        """Everything."""
        return [*self.val, *(part for view in self.views for part in view)]

    def names(self, part: Part) -> list[str]:
        """Which outputs of the teacher are kept."""
        names = ["embedding"] if self.sizes.logits is None else ["logits", "embedding"]
        if part.view is None:
            return names
        return [*names, *(["tokens"] if self.patches else []), *self.attention]

    def layout(self, part: Part) -> Layout:
        """What a part's file holds: float16 of views, float32 of the images themselves, whose metrics must not suffer."""
        width = 0 if self.sizes.grid is None else self.sizes.grid[0]
        shapes = {
            "logits": (self.sizes.logits or 0,),
            "embedding": (self.sizes.embedding,),
            "tokens": (self.patches, width),
            **{name: self.sizes.attention[int(name[1:])] for name in self.attention},
        }
        kept = {name: shapes[name] for name in self.names(part)}
        if part.view is None:
            return {name: (torch.float32, shape) for name, shape in kept.items()}
        return {key: value for name, shape in kept.items() for key, value in packed(name, shape).items()}

    def where(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In which part of a view images of train are, and in which of its rows, both int64 `[N]`."""
        return np.divmod(self._place[images], ROWS)

    def patches_of(self, images: np.ndarray, view: int) -> torch.Tensor:
        """Which cells of the teacher's grid are kept, int64 `[N, T]`."""
        assert self.sizes.grid is not None
        _, height, width = self.sizes.grid
        return torch.from_numpy(draw_patches(self.seed, images, view, height * width, self.patches))


def _parts(name: str, view: int | None, images: np.ndarray) -> list[Part]:
    cuts = [images[start : start + ROWS] for start in range(0, len(images), ROWS)]
    return [Part(f"{name}-{number:05d}", view, rows) for number, rows in enumerate(cuts)]
