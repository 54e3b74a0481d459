"""Images that are numbers, and models that answer with them: what is measured can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task, make_task
from edgefm.verify.answers import Answers, collect
from edgefm.verify.contenders import Contender

BINARY = make_task("binary", ("normal", "ill"))
SPEC = Preprocess(channels=1, size=1, resize_to=1, mean=(0.0,), std=(1.0,))


class Greys:
    """One pixel per image: grey level `levels[i]`, 0 to 255. Counts how often each is read."""

    def __init__(
        self, levels: Sequence[int], labels: Sequence[int] | np.ndarray | None = None, patients: Sequence[str] | None = None
    ) -> None:
        self.levels, self.patients = levels, patients
        self.labels = None if labels is None else np.asarray(labels)
        self.rows: Sequence[int | None] = [index + 2 for index in range(len(levels))]
        self.read = [0] * len(levels)

    def __len__(self) -> int:
        return len(self.levels)

    def pixels(self, index: int) -> np.ndarray:
        self.read[index] += 1
        return np.full((1, 1), self.levels[index], np.uint8)


def grey(batch: np.ndarray) -> np.ndarray:
    """float64 [N], 0 to 1: the grey level of prepared images."""
    return batch.reshape(len(batch)).astype(np.float64)


def contender(
    name: str,
    probability: Callable[[np.ndarray], np.ndarray] = lambda level: level,
    *,
    task: Task = BINARY,
    spec: Preprocess = SPEC,
    precision: str = "fp32",
    wrong: str = "",
) -> Contender:
    """A model whose probability of the positive class is a function of the grey level; its embedding is (level, 1)."""

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        level = grey(batch)
        p = np.clip(probability(level), 1e-6, 1 - 1e-6)
        logits = np.stack([np.log(1 - p), np.log(p)], axis=1).astype(np.float32)
        embedding = np.stack([probability(level), np.ones_like(level)], axis=1).astype(np.float32)
        return {"embedding": embedding} if task.kind == "embedding" else {"logits": logits, "embedding": embedding}

    return Contender(name=name, precision=precision, task=task, preprocess=spec, predict=predict, wrong=wrong)


def answered(images: Greys, *contenders: Contender, embeddings: bool = False) -> list[Answers]:
    """Their answers; the first is the reference."""
    return collect(images, contenders, reference=contenders[0], embeddings=embeddings, bar=lambda share, left: None)


def too_sure(count: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[N, 2]` that are `factor` times as large as those that the labels, int64 `[N]`, were drawn by."""
    random = np.random.default_rng(seed)
    margin = random.normal(0, 2, count)
    labels = (random.random(count) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    return factor * np.stack([-margin / 2, margin / 2], axis=1), labels
