"""What the student is held to in each step: the teacher's answers, and labels where they are known.

Not the formulas (`losses.py`) and not where the answers come from (`cache.py`).
"""

from __future__ import annotations

import torch

from ..models import Outputs
from ..spec.recipe import LossRecipe
from ..spec.task import TaskKind
from ..train.objective import Batch, LabelObjective, Progress
from .cache import TeacherCache
from .losses import feature_loss, logit_loss, spread
from .patches import resample_patches
from .projector import Projectors


class TeacherTarget:
    """The teacher's answers and, beside them, labels.

    A large difference between features is their spread in the first file of the first view: root mean square about their mean.

    Args:
        losses: weights of the terms that apply, 0 for the others. kind, temperature: of the logits.
        projectors: from the student's features into the teacher's space.
        labels: or None.
        device: of the student.
    """

    def __init__(
        self,
        cache: TeacherCache,
        losses: LossRecipe,
        projectors: Projectors,
        labels: LabelObjective | None,
        *,
        kind: TaskKind,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.cache, self.losses, self.projectors, self.labels = cache, losses, projectors, labels
        self.kind, self.temperature, self.device = kind, temperature, device
        self.scales: dict[str, torch.Tensor] = {}

    def prepare(self, view: int, progress: Progress) -> None:
        """Ask the teacher about a view that it has not seen."""
        if not self.scales:
            sample = self.cache.sample(progress)
            self.scales = {name: spread(sample[name]).to(self.device) for name in ("embedding", "tokens") if name in sample}
        self.cache.prepare(view, progress)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The terms `logits`, `features`, `tokens` and `labels`, as far as they apply."""
        answers = {name: rows.to(self.device) for name, rows in self.cache.of(batch.indexes).items()}
        losses, terms = self.losses, {}
        if losses.logits:
            assert outputs.logits is not None
            terms["logits"] = losses.logits * logit_loss(outputs.logits.float(), answers["logits"], self.kind, self.temperature)
        if losses.features:
            mine = outputs.embedding.float()
            mine = mine if self.projectors.features is None else self.projectors.features(mine)
            terms["features"] = losses.features * feature_loss(mine, answers["embedding"], self.scales["embedding"])
        if losses.tokens:
            terms["tokens"] = losses.tokens * self._token_loss(outputs, batch, answers["tokens"])
        return terms | (self.labels(outputs, batch) if self.labels is not None else {})

    def _token_loss(self, outputs: Outputs, batch: Batch, answers: torch.Tensor) -> torch.Tensor:
        grid, project = self.cache.questions.sizes.grid, self.projectors.tokens
        assert outputs.tokens is not None
        assert grid is not None
        assert project is not None
        patches = self.cache.questions.patches_of(batch.indexes, batch.view).to(self.device)
        mine = resample_patches(outputs.tokens.float(), patches, grid[1:])
        return feature_loss(project(mine), answers, self.scales["tokens"])
