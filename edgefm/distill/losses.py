"""Losses between a student's and a teacher's outputs. Not the loss on labels: that is `train/label_loss.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from ..spec.task import TaskKind


def logit_loss(student: torch.Tensor, teacher: torch.Tensor, kind: TaskKind, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's to the student's softened answers, a scalar.

    Hinton, Vinyals and Dean 2015, section 2.1: T^2 mean_i sum_k p_ik log(p_ik / q_ik), p = softmax(v / T), q = softmax(z / T);
    T^2 keeps the size of the gradients whatever T.
    Multilabel, where each label is a Bernoulli variable of its own, p = sigmoid(v / T), q = sigmoid(z / T):
    T^2 mean_ik [p_ik log(p_ik / q_ik) + (1 - p_ik) log((1 - p_ik) / (1 - q_ik))].

    Args:
        student: z, float `[N, K]`. teacher: v, the same shape, without gradient. temperature: T, above 0.
    """
    z, v = student / temperature, teacher / temperature
    if kind == "multilabel":
        yes, no = functional.logsigmoid(v), functional.logsigmoid(-v)
        terms = yes.exp() * (yes - functional.logsigmoid(z)) + no.exp() * (no - functional.logsigmoid(-z))
        return temperature**2 * terms.mean()
    p, q = functional.log_softmax(v, dim=1), functional.log_softmax(z, dim=1)
    return temperature**2 * (p.exp() * (p - q)).sum(dim=1).mean()


def blend(logits: Sequence[torch.Tensor], kind: TaskKind, temperature: float) -> torch.Tensor:
    """The logits whose softened answers are the mean of several teachers', as `logit_loss` takes them.

    Hinton, Vinyals and Dean 2015, section 1, the arithmetic mean: p = mean_m softmax(v_m / T), which is softmax(v / T) of
    v = T log p.
    Multilabel: p = mean_m sigmoid(v_m / T) of each label, which is sigmoid(v / T) of v = T (log p - log(1 - p)).

    Args:
        logits: v_m, float `[N, K]` each. temperature: T, above 0.
    """
    if len(logits) == 1:
        return logits[0]
    v = torch.stack([each / temperature for each in logits])
    count = torch.tensor(len(logits), dtype=v.dtype, device=v.device).log()
    if kind == "multilabel":
        yes, no = functional.logsigmoid(v).logsumexp(dim=0), functional.logsigmoid(-v).logsumexp(dim=0)
        return temperature * (yes - no)
    return temperature * (functional.log_softmax(v, dim=2).logsumexp(dim=0) - count)


def feature_loss(student: torch.Tensor, teacher: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Distance between features in direction and in size, a scalar: of embeddings, or of patch tokens.

    mean_i (1 - cos(s_i, t_i)) + mean_id huber((s_id - t_id) / scale), huber(u) = u^2 / 2 below 1, |u| - 1/2 above:
    the sum of cosine and smooth-L1 of AM-RADIO (Ranzinger et al. 2024, section 3.3), equally weighted.

    Args:
        student: s, float `[N, D]`, or `[N, T, D]` with i over both N and T. In the teacher's space: where it is not, the
            student's features go through a linear projector that learns along (`projector.py`), as in FitNets (Romero et al.
            2015, section 2.2).
        teacher: t, the same shape, without gradient. scale: what a large difference is, above 0; see `spread`.
    """
    cosine = 1 - functional.cosine_similarity(student, teacher, dim=-1).mean()
    return cosine + functional.smooth_l1_loss(student / scale, teacher / scale)


def spread(features: torch.Tensor) -> torch.Tensor:
    """Root mean square of `[..., D]` about its mean over all but D, a scalar above 0."""
    rows = features.flatten(0, -2)
    return (rows - rows.mean(dim=0)).square().mean().sqrt().clamp_min(1e-6)
