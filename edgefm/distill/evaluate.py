"""How close student and teacher are on the validation images. Not the gate: nothing is refused here."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..models import Outputs
from ..runtime.decide import decisions, probabilities
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from ..train.images import Images
from ..train.loop import Validate, Validation
from ..train.precision import Precision
from ..train.predict import all_outputs, predict
from ..verify.metrics import defined, embedding_metrics, flips, knn_accuracy, task_metrics
from .losses import feature_loss, logit_loss, spread


def evaluate(answers: dict[str, Outputs], labels: np.ndarray | None, tasks: dict[str, Task]) -> dict[str, dict[str, float]]:
    """Metrics of all on the same images; those that the images do not define are left out.

    Args:
        answers: of the `student`, and of the `teacher` where it was asked.
        labels: of these images, or None.
        tasks: of each; only thresholds and temperature may differ.

    Returns:
        for each the task's metrics where there are labels (kNN accuracy for embeddings); and of the two `between`: `flips`, the
        share of decisions that differ, or `mean_cosine` of embeddings.
    """
    if tasks["student"].kind == "embedding":
        rows = {who: outputs.embedding.numpy() for who, outputs in answers.items()}
        found = (
            {} if labels is None else {who: defined({"knn_accuracy": knn_accuracy(each, labels)}) for who, each in rows.items()}
        )
        return found | {"between": embedding_metrics(rows["student"], rows["teacher"])}
    said = {
        who: probabilities(outputs.logits.numpy(), tasks[who]) for who, outputs in answers.items() if outputs.logits is not None
    }
    found = {} if labels is None else {who: defined(task_metrics(each, labels, tasks[who])) for who, each in said.items()}
    if "teacher" not in said:
        return found
    return found | {"between": {"flips": flips(*(decisions(each, tasks[who]) for who, each in said.items()))}}


def validate_against_teacher(
    images: Images,
    indexes: np.ndarray,
    teacher: Outputs,
    spec: Preprocess,
    task: Task,
    temperature: float,
    device: torch.device,
) -> Validate:
    """A validation without labels: the distance to the teacher's answers on the same images, smaller is better.

    Args:
        indexes: int64 `[N]`, the images to validate on. teacher: its answers to them, in the same order.
    """
    scale = spread(teacher.embedding)

    def validate(module: nn.Module, precision: Precision) -> Validation:
        student = all_outputs(predict(module, images, indexes, spec, device=device, precision=precision))
        if student.logits is not None and teacher.logits is not None and task.kind != "embedding":
            loss = logit_loss(student.logits, teacher.logits, task.kind, temperature)
        else:
            loss = feature_loss(student.embedding, teacher.embedding, scale)
        return Validation({"loss": loss.item()}, (-loss.item(),))

    return validate
