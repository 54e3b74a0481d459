"""A data set: names, labels, patients and splits in memory, pixels read when asked for.

Not a loader for training (`train/` draws batches and views) and not the reading of any form of DATA (`sources.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from typing import Literal, Protocol, TypeVar

import numpy as np

from ..errors import ImageError, InputError
from ..spec.task import Task

T = TypeVar("T")
UNKNOWN = -1  # in place of a class index; in a row of uint8 it is 255


class Store(Protocol):
    """Where pixels come from. `key` is an image's position in the source, whatever was left out since."""

    def pixels(self, key: int) -> np.ndarray:
        """uint8 or uint16, `[H, W]`, `[H, W, 3]` or `[H, W, 4]`. Raises `ImageError`."""

    def digest(self, key: int) -> bytes:
        """SHA-256 of what is stored, without decoding it. Raises `ImageError`."""

    def copies(self) -> dict[int, int]:
        """Keys of images that are byte for byte the same as an earlier one, each with the key of the first."""


@dataclass(frozen=True)
class Problem:
    """An image that could not be read. `reason` names the row and the file, and says why."""

    name: str
    row: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images with what is known about them; immutable, safe to share between threads.

    Attributes:
        name: for people and the lineage; no absolute path.
        task: kind and labels in the order of the logits, default thresholds.
        names: one per image, unique: the path as the source gives it, or the position in an array.
        rows: spreadsheet row of each image in a CSV (the header is row 1), else None.
        labels: int64 `[N]` class indexes; uint8 `[N, K]` of 0 and 1 for multilabel; None without labels. An image of train may
            have labels that are not known: -1, or a row of 255 (`known`).
        patients: one id per image, or None if unknown.
        groups: column name to one value per image ("" where empty).
        splits: unicode `[N]`: train, val, calibrate or test.
        notes: choices made while reading that a person should see, one sentence each.
        skipped: unreadable images that `check_images` left out.
        broken: what `check_images` does with unreadable images.
        store: where the pixels are. keys: position of each image in it, int64 `[N]`.
    """

    name: str
    task: Task
    names: tuple[str, ...]
    rows: tuple[int | None, ...]
    labels: np.ndarray | None
    patients: tuple[str, ...] | None
    groups: dict[str, tuple[str, ...]]
    splits: np.ndarray
    store: Store = field(repr=False)
    keys: np.ndarray = field(repr=False)
    broken: Literal["refuse", "skip"] = "refuse"
    notes: tuple[str, ...] = ()
    skipped: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        for array in (self.labels, self.splits, self.keys):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def known(self) -> np.ndarray:
        """Whether an image's labels are known, bool `[N]`."""
        if self.labels is None:
            return np.zeros(len(self), bool)
        known: np.ndarray = self.labels != UNKNOWN if self.labels.ndim == 1 else self.labels[:, 0] != UNKNOWN % 256
        return known

    def labelled(self, split: str) -> np.ndarray:
        """Indexes of the images of `split` whose labels are known, int64, ascending. Raises `InputError` if it has none."""
        indexes = np.flatnonzero((self.splits == split) & self.known)
        if not len(indexes):
            raise InputError(f"{self.name} has no labels in the split '{split}'", do=f"label some images of '{split}'")
        return indexes

    def pixels(self, index: int) -> np.ndarray:
        """The stored pixels of one image, uint8 or uint16. Raises `ImageError` naming the file and its row."""
        return self._named(index, self.store.pixels)

    def of(self, split: str) -> np.ndarray:
        """Indexes of the images of `split`, int64, ascending. Raises `InputError` if it has none."""
        indexes = np.flatnonzero(self.splits == split)
        if not len(indexes):
            have = ", ".join(f"{name} ({count})" for name, count in zip(*np.unique(self.splits, return_counts=True)))
            raise InputError(f"{self.name} has no images in the split '{split}', only {have}", do=f"add images to '{split}'")
        return indexes

    def take(self, indexes: Iterable[int] | np.ndarray) -> Dataset:
        """The data set of these images only, in this order."""
        chosen = np.asarray(list(indexes), dtype=np.int64)

        def pick(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in chosen)

        return replace(
            self,
            names=pick(self.names),
            rows=pick(self.rows),
            labels=None if self.labels is None else self.labels[chosen],
            patients=None if self.patients is None else pick(self.patients),
            groups={name: pick(values) for name, values in self.groups.items()},
            splits=self.splits[chosen],
            keys=self.keys[chosen],
        )

    def sha256(self) -> str:
        """SHA-256 over name, labels, patient, split and stored bytes of each image in order; folders above the data set
        do not matter. Reads every file once, decodes none. Raises `ImageError`."""
        unknown = "" if self.labels is None else "?\0"  # no label can be called that
        labels = ["|".join(self.label_names(index)) if known else unknown for index, known in enumerate(self.known)]
        return self._sha256(b"edgefm data 1", labels, self.patients or ("",) * len(self))

    def images_sha256(self) -> str:
        """The same without labels and patients: what a model without labels sees."""
        return self._sha256(b"edgefm images 1")

    def _sha256(self, whole: bytes, *columns: Sequence[str]) -> str:
        """Over the words of each image: its name, then those in `columns`, then its split; and its bytes."""
        digest = hashlib.sha256(whole)
        plain = [PurePath(name).name if PurePath(name).is_absolute() else name for name in self.names]
        for *words, stored in zip(plain, *columns, self.splits.tolist(), self._stored):
            for word in words:
                encoded = word.encode("utf-8", "surrogateescape")
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
            digest.update(stored)
        return digest.hexdigest()

    @cached_property
    def _stored(self) -> list[bytes]:
        """SHA-256 of the stored bytes of each image."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda index: self._named(index, self.store.digest), range(len(self))))

    def label_names(self, index: int) -> tuple[str, ...]:
        """The labels of one image; empty where none are known, and for a multilabel image that has none."""
        if self.labels is None or not self.known[index]:
            return ()
        if self.labels.ndim == 1:
            return (self.task.labels[int(self.labels[index])],)
        return tuple(label for label, present in zip(self.task.labels, self.labels[index]) if present)

    def _named(self, index: int, read: Callable[[int], T]) -> T:
        try:
            return read(int(self.keys[index]))
        except ImageError as error:
            row = self.rows[index]
            if row is None:
                raise
            raise ImageError(f"row {row} of {self.name}: {error.found}", expected=error.expected, do=error.do) from error
