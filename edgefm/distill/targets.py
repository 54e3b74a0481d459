"""What the teacher says about the training images, and how the student is held to it. Not the formulas: `losses.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..errors import InputError
from ..models import LoadedModel, Outputs
from ..partial import write_atomically
from ..spec.recipe import AugmentRecipe
from ..spec.task import TaskKind
from ..train.checkpoint import check_identity, state_folder
from ..train.images import Images
from ..train.objective import Batch, LabelObjective, Progress
from ..train.precision import Precision
from ..train.predict import predict
from .losses import embedding_loss, logit_loss


@dataclass(kw_only=True)
class TeacherTable:
    """The teacher's answers, one row per (view, image). Each is computed once: the teacher sees no image twice.

    Attributes:
        answer: which of its outputs. train: int64 `[N]`, positions of the training images.
        folder: keeps a file per view, so that a resumed run does not ask again. identity: of the run (see `train/loop.py`).
        device: where the rows are wanted. teacher_device, precision: where and how the teacher runs.
        rows: view to float32 `[N, D]`.
    """

    teacher: LoadedModel
    answer: Literal["logits", "embedding"]
    images: Images
    train: np.ndarray
    folder: Path
    identity: Mapping[str, Any]
    seed: int
    augment: AugmentRecipe
    device: torch.device
    teacher_device: torch.device
    precision: Precision

    def __post_init__(self) -> None:
        self.rows: dict[int, torch.Tensor] = {}
        self.place = np.full(len(self.images.dataset), -1, np.int64)
        self.place[self.train] = np.arange(len(self.train))

    def prepare(self, view: int, progress: Progress) -> None:
        """See that the rows of `view` are there: in memory, from their file, or by asking the teacher.

        Raises:
            InputError: the teacher answers with numbers that are not finite, or the file is damaged or of another run.
        """
        if view in self.rows:
            return
        path = state_folder(self.folder) / f"teacher-view-{view}.safetensors"
        rows = self._read(path)
        if rows is None:
            rows = self._ask(view, progress)
            self._write(path, rows)
        self.rows[view] = rows.to(self.device)

    def of(self, batch: Batch) -> torch.Tensor:
        """The teacher's answers to a batch, float32 `[B, D]`."""
        return self.rows[batch.view][torch.from_numpy(self.place[batch.indexes]).to(self.device)]

    def _ask(self, view: int, progress: Progress) -> torch.Tensor:
        asked = predict(
            self.teacher.module,
            self.images,
            self.train,
            self.teacher.preprocess,
            device=self.teacher_device,
            precision=self.precision,
            view=(self.seed, view, self.augment),
        )
        answers, done = [], 0
        for indexes, outputs in asked:
            answer = getattr(outputs, self.answer)
            answers.append(answer)
            done += len(indexes)
            progress(done, len(self.train))
        return torch.cat(answers)

    def _write(self, path: Path, rows: torch.Tensor) -> None:
        from safetensors.torch import save

        write_atomically(path, save({"rows": rows.contiguous()}, {"identity": json.dumps(self.identity)}))

    def _read(self, path: Path) -> torch.Tensor | None:
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                check_identity(self.folder, json.loads((file.metadata() or {})["identity"]), self.identity)
                rows: torch.Tensor = file.get_tensor("rows")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"the teacher's answers in {path} are damaged ({error})", do="start again without --resume"
            ) from error
        return rows


class LogitTarget:
    """The teacher's logits, softened, and the labels beside them where there are some.

    Args:
        table: of the teacher's logits, or None to learn from labels only. labels: or None.
        weight, temperature: of the logit loss.
    """

    def __init__(
        self, table: TeacherTable | None, labels: LabelObjective | None, kind: TaskKind, weight: float, temperature: float
    ) -> None:
        self.table, self.labels, self.kind, self.weight, self.temperature = table, labels, kind, weight, temperature

    def prepare(self, view: int, progress: Progress) -> None:
        """Ask the teacher about a view that it has not seen."""
        if self.table is not None:
            self.table.prepare(view, progress)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The terms `logits` and `labels`."""
        assert outputs.logits is not None
        terms = {}
        if self.table is not None:
            loss = logit_loss(outputs.logits.float(), self.table.of(batch), self.kind, self.temperature)
            terms["logits"] = self.weight * loss
        return terms | (self.labels(outputs, batch) if self.labels is not None else {})


class EmbeddingTarget:
    """The teacher's embeddings. A large difference is the spread of the first view's: root mean square about their mean."""

    def __init__(self, table: TeacherTable) -> None:
        self.table = table
        self.scale: torch.Tensor | None = None

    def prepare(self, view: int, progress: Progress) -> None:
        """Ask the teacher about a view that it has not seen."""
        for needed in {0, view}:
            self.table.prepare(needed, progress)
        if self.scale is None:
            self.scale = spread(self.table.rows[0])

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The term `embedding`."""
        assert self.scale is not None
        return {"embedding": embedding_loss(outputs.embedding.float(), self.table.of(batch), self.scale)}


def spread(embedding: torch.Tensor) -> torch.Tensor:
    """Root mean square of `[N, D]` about its mean over N, a scalar above 0."""
    return (embedding - embedding.mean(dim=0)).square().mean().sqrt().clamp_min(1e-6)
