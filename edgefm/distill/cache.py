"""The teacher cache: what a teacher says about each view of each image, asked once, kept on disk, read mapped.

Not what is asked (`questions.py`), not what is learned from it (`targets.py`), not one of its files (`shard.py`).

    CACHE/<source>.json                       what is known of a teacher without loading it (`known.py`)
    CACHE/<teacher>/about.json                what it answers (`sizes.py`)
    CACHE/<teacher>/<questions>/key.json      images, views, seed, patches: all that the answers depend on
                                view-0-00000.safetensors …    512 training images each, float16
                                val-00000.safetensors …       the images to validate on, not augmented, float32

The folders are called by the SHA-256 of what is in their JSON, and each file repeats it: another teacher, other images or other
views never meet. A file is there whole or not at all, and a damaged one is asked for again. Several runs may share a cache:
one asks, the others wait and read.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..models import Outputs
from ..models.loaded import Attended
from ..partial import write_atomically
from ..train.images import Images
from ..train.objective import Progress
from .known import write_card
from .patches import take_patches
from .questions import Part, Questions
from .shard import Tensors, pack, read_shard, row_bytes, unpack, write_shard
from .sizes import full_name, short_name, write_sizes
from .teacher import Teacher


class TeacherCache:
    """The answers of one teacher to a run's questions.

    Args:
        root: the cache's folder; made when there is something to write.
        line: takes a sentence.

    Attributes:
        good: names of the parts that this process has checked or made.
    """

    def __init__(self, root: Path, teacher: Teacher, questions: Questions, images: Images, line: Callable[[str], None]) -> None:
        self.teacher, self.questions, self.images, self.line = teacher, questions, images, line
        self.root = root
        self.home = root / short_name(teacher.identity)
        self.good: set[str] = set()
        self._view: int | None = None
        self._open: list[Tensors] = []

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.home / short_name(self.questions.key)

    @property
    def missing(self) -> list[Part]:
        """What has yet to be asked, as far as this process knows."""
        return [part for part in self.questions.parts if part.name not in self.good]

    def missing_bytes(self) -> int:
        """What its answers will take on disk."""
        return sum(len(part.images) * row_bytes(self.questions.layout(part)) for part in self.missing)

    def check(self) -> None:
        """Take in the files that are there and right."""
        if self.home.is_dir():
            self.good |= {part.name for part in self.questions.parts if self._read(part, whole=True) is not None}

    def begin(self) -> None:
        """Say what will be asked and what it takes on disk. A teacher that has nothing left to answer is let go.

        Raises:
            InputError: the disk has less.
        """
        missing, count = self.missing, _count(self.missing)
        have = _count(self.questions.parts) - count
        self._let_go()
        if not missing:
            if os.access(self.root, os.W_OK):  # of somebody else's cache the answers are read, and nothing is added
                write_card(self.teacher)
            self.line(f"the teacher is not asked: its {have} answers are in {self.root}")
            return
        damaged = sum(self._path(part).exists() for part in missing)
        if damaged:
            self.line(f"{damaged} damaged files in {self.folder} are made again")
        size, free = self.missing_bytes(), shutil.disk_usage(_nearest(self.root)).free
        there = f" ({have} are there)" if have else ""
        self.line(f"the teacher is asked {count} times{there}; its answers take {bytes_of(size)} in {self.root}")
        if size > free:
            raise InputError(
                f"the teacher's answers take {bytes_of(size)}, and the disk of {self.root} has {bytes_of(free)} left",
                do="free some space, choose another folder with --cache, or ask for less with distill.views, tokens or layers",
            )

    def prepare(self, view: int, progress: Progress) -> None:
        """See that the answers about `view` are there, and map them.

        Raises:
            InputError: the teacher's answers are not finite, cannot be written, or are gone after all.
        """
        if view != self._view:
            self._open, self._view = self._get(self.questions.views[view], progress), view

    def of(self, images: np.ndarray, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
        """The answers about the prepared view of some images, float32: `logits [N, K]` where the teacher has a classifier,
        `embedding [N, D]`, and where they are kept `tokens [N, T, D]` and, of attention layers, `q11 [N, H, T, d]` and so on.

        Args:
            images: int64 `[N]`, positions in the data set, of train. names: of those that are wanted; None for all.
        """
        assert self._view is not None
        files, rows = self.questions.where(images)
        found: dict[str, torch.Tensor] = {}
        for file in np.unique(files):
            here = torch.from_numpy(np.flatnonzero(files == file))
            for name in self.questions.names(self.questions.views[self._view][file]):
                if names is not None and name not in names:
                    continue
                values = unpack(self._open[file], name, torch.from_numpy(rows)[here])
                if name not in found:
                    found[name] = values.new_empty(len(images), *values.shape[1:])
                found[name][here] = values
        return found

    def sample(self, progress: Progress, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
        """`of` the first file of view 0, which is prepared for it: enough to see how far answers lie apart."""
        self.prepare(0, progress)
        return self.of(self.questions.views[0][0].images, names)

    def val_outputs(self, progress: Progress) -> Outputs | None:
        """The answers to the images to validate on, float32; None where there are none. Raises as `prepare`."""
        parts = self.questions.val
        tensors = self._get(parts, progress)
        if not tensors:
            return None
        joined = {name: torch.cat([each[name] for each in tensors]) for name in self.questions.names(parts[0])}
        return Outputs(joined.get("logits"), joined["embedding"])

    def _get(self, parts: list[Part], progress: Progress) -> list[Tensors]:
        missing = [part for part in parts if part.name not in self.good]
        if missing:
            self._fill(missing, progress)
        found = []
        for part in parts:
            tensors = self._read(part, whole=False)
            if tensors is None:
                raise InputError(
                    f"{self._path(part)} is gone or was changed since this run began",
                    do="the same command with --resume goes on",
                )
            found.append(tensors)
        return found

    def _fill(self, parts: list[Part], progress: Progress) -> None:
        count, done = _count(parts), 0
        with self._alone(self.home):
            write_card(self.teacher)
            write_sizes(self.home, self.teacher, self.questions.sizes)
        with self._alone(self.folder):
            write_atomically(self.folder / "key.json", (json.dumps(self.questions.key, indent=1) + "\n").encode())
            for part in parts:
                if self._read(part, whole=True) is None:  # another run may have asked meanwhile
                    self._ask(part, partial(_shifted, progress, done, count))
                done += len(part.images)
                self.good.add(part.name)
        self._let_go()

    def _ask(self, part: Part, progress: Callable[[int], None]) -> None:
        names, rows = self.questions.names(part), dict[str, list[torch.Tensor]]()
        view = None if part.view is None else (self.questions.seed, part.view, self.questions.augment)
        precision = "fp32" if view is None else self.teacher.precision
        attention = self.questions.attention if view is not None else ()
        asked = self.teacher.ask(
            self.images, part.images, precision=precision, view=view, tokens="tokens" in names, attention=attention
        )
        done = 0
        for chosen, outputs in asked:
            for name in names:
                answer = self._answer(name, outputs, chosen, part)
                # packed at once: queries and keys of 512 images take gigabytes in float32
                for key, value in ({name: answer} if view is None else pack(name, answer)).items():
                    rows.setdefault(key, []).append(value)
            done += len(chosen)
            progress(done)
        tensors = {key: torch.cat(values) for key, values in rows.items()}
        write_shard(self._path(part), tensors, key=full_name(self.questions.key), part=part.name)

    def _answer(self, name: str, outputs: Outputs, images: np.ndarray, part: Part) -> torch.Tensor:
        """What is kept of one output."""
        if name == "tokens":
            assert outputs.tokens is not None
            return take_patches(outputs.tokens, self.questions.patches_of(images, part.view or 0))
        noted = outputs.attention if isinstance(outputs, Attended) else {}
        answer = noted[name] if name in noted else getattr(outputs, name)
        assert isinstance(answer, torch.Tensor)
        return answer

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.name}.safetensors"

    def _read(self, part: Part, *, whole: bool) -> Tensors | None:
        layout, rows = self.questions.layout(part), len(part.images)
        return read_shard(
            self._path(part), key=full_name(self.questions.key), part=part.name, rows=rows, layout=layout, whole=whole
        )

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Make a folder and hold its lock; the system lets it go when a process dies."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / "lock", "w")  # noqa: SIM115 - closed below
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror})", do="choose another folder with --cache"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.line("another run asks the same of this teacher: waiting for its answers")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _let_go(self) -> None:
        if not self.missing and self.teacher.here:
            self.teacher.let_go()


def bytes_of(count: float) -> str:
    """A size for people: "0.1 MB" at least, "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count, 1e5) / 1e6:.1f} MB"


def _shifted(progress: Progress, before: int, count: int, now: int) -> None:
    progress(before + now, count)


def _count(parts: list[Part]) -> int:
    return sum(len(part.images) for part in parts)


def _nearest(path: Path) -> Path:
    """That folder, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
