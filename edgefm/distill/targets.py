"""What the student is held to in each step: the teachers' answers, and labels where they are known.

Not the formulas (`losses.py`) and not where the answers come from (`cache.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..models import Outputs
from ..models.loaded import Attended
from ..spec.recipe import LossRecipe
from ..spec.task import TaskKind
from ..train.objective import Batch, LabelObjective, Progress
from .attention import Pairs, attention_loss, relation_loss
from .cache import TeacherCache
from .losses import blend, feature_loss, logit_loss, spread
from .patches import resample_patches
from .projector import Projectors


class TeacherTarget:
    """The teachers' answers and, beside them, labels.

    Several teachers: the mean of their softened answers; of the losses on features and on tokens, each teacher's through
    projectors of its own, the mean too, as of those on attention and relations. A large difference between features is their
    spread in the first file of the first view: root mean square about their mean.

    Args:
        caches: of each teacher's answers.
        losses: weights of the terms that apply, 0 for the others. kind, temperature: of the logits.
        projectors: from the student's features into each teacher's space.
        labels: or None.
        device: of the student.
        layers: whose attention is compared, of each teacher; none of one that shows none.
    """

    def __init__(
        self,
        caches: Sequence[TeacherCache],
        losses: LossRecipe,
        projectors: Sequence[Projectors],
        labels: LabelObjective | None,
        *,
        kind: TaskKind,
        temperature: float,
        device: torch.device,
        layers: Sequence[Pairs] = (),
    ) -> None:
        self.caches, self.losses, self.projectors, self.labels = caches, losses, projectors, labels
        self.kind, self.temperature, self.device = kind, temperature, device
        self.layers = layers
        self.scales: list[dict[str, torch.Tensor]] = []

    def prepare(self, view: int, progress: Progress) -> None:
        """Ask the teachers about a view that they have not seen."""
        if not self.scales:
            names = ("embedding", "tokens")
            samples = [cache.sample(progress, names) for cache in self.caches]
            self.scales = [{name: spread(each[name]).to(self.device) for name in names if name in each} for each in samples]
        for cache in self.caches:
            cache.prepare(view, progress)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The terms `logits`, `features`, `tokens`, `attention`, `relation` and `labels`, as far as they apply."""
        said = [{name: rows.to(self.device) for name, rows in cache.of(batch.indexes).items()} for cache in self.caches]
        losses, terms = self.losses, {}
        if losses.logits:
            assert outputs.logits is not None
            blended = blend([each["logits"] for each in said if "logits" in each], self.kind, self.temperature)
            terms["logits"] = losses.logits * logit_loss(outputs.logits.float(), blended, self.kind, self.temperature)
        if losses.features:
            found = [self._feature_loss(number, outputs, each["embedding"]) for number, each in enumerate(said)]
            terms["features"] = losses.features * torch.stack(found).mean()
        if losses.tokens:
            found = [
                self._token_loss(number, outputs, batch, each["tokens"]) for number, each in enumerate(said) if "tokens" in each
            ]
            terms["tokens"] = losses.tokens * torch.stack(found).mean()
        for name, formula in (("attention", attention_loss), ("relation", relation_loss)):
            if weight := getattr(losses, name):
                assert isinstance(outputs, Attended)
                found = [formula(outputs.attention, each, pairs) for each, pairs in zip(said, self.layers) if pairs]
                terms[name] = weight * torch.stack(found).mean()
        return terms | (self.labels(outputs, batch) if self.labels is not None else {})

    def _feature_loss(self, number: int, outputs: Outputs, answers: torch.Tensor) -> torch.Tensor:
        project, mine = self.projectors[number].features, outputs.embedding.float()
        return feature_loss(mine if project is None else project(mine), answers, self.scales[number]["embedding"])

    def _token_loss(self, number: int, outputs: Outputs, batch: Batch, answers: torch.Tensor) -> torch.Tensor:
        questions, project = self.caches[number].questions, self.projectors[number].tokens
        assert outputs.tokens is not None
        assert questions.sizes.grid is not None
        assert project is not None
        patches = questions.patches_of(batch.indexes, batch.view).to(self.device)
        mine = resample_patches(outputs.tokens.float(), patches, questions.sizes.grid[1:])
        return feature_loss(project(mine), answers, self.scales[number]["tokens"])
