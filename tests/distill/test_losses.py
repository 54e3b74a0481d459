"""The losses between student and teacher against plain formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefm.distill.losses import blend, feature_loss, logit_loss

Z = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
V = torch.tensor([[2.0, -1.0, 0.0], [0.5, 1.0, -4.0]], dtype=torch.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_over_classes_is_hintons(temperature: float) -> None:
    p, q = softmax(V.numpy() / temperature), softmax(Z.numpy() / temperature)
    wanted = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert logit_loss(Z, V, "multiclass", temperature).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_over_labels_is_that_of_bernoulli_variables(temperature: float) -> None:
    p, q = (1 / (1 + np.exp(-logits.numpy() / temperature)) for logits in (V, Z))
    wanted = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert logit_loss(Z, V, "multilabel", temperature).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_student_that_answers_as_its_teacher_loses_nothing(kind: str) -> None:
    z = Z.clone().requires_grad_()
    loss = logit_loss(z, Z, kind, 2.0)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(loss, z)
    assert abs(loss.item()) < 1e-15
    assert slope.abs().max() < 1e-15


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_the_gradients_are_right(kind: str) -> None:
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: logit_loss(z, V, kind, 2.0), (z,))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_huge_logits_give_finite_losses_and_gradients(kind: str) -> None:
    z = (Z * 1e4).float().requires_grad_()
    loss = logit_loss(z, (-V * 1e4).float(), kind, 2.0)  # type: ignore[arg-type]
    loss.backward()
    assert torch.isfinite(loss)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_softness_keeps_the_size_of_the_gradients() -> None:
    z = (Z / 100).requires_grad_()
    sizes = [torch.autograd.grad(logit_loss(z, V / 100, "multiclass", t), z)[0].norm().item() for t in (1.0, 10.0)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_the_feature_loss_is_its_formula() -> None:
    scale = torch.tensor(0.7, dtype=torch.float64)
    s, t = Z.numpy(), V.numpy()
    cosine = (s * t).sum(axis=1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1)
    u = np.abs(s - t) / 0.7
    wanted = (1 - cosine).mean() + np.where(u < 1, u**2 / 2, u - 0.5).mean()
    assert feature_loss(Z, V, scale).item() == pytest.approx(wanted, rel=1e-12)


def test_the_gradient_of_the_feature_loss_is_right() -> None:
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: feature_loss(z, V, torch.tensor(0.7, dtype=torch.float64)), (z,))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_several_teachers_answer_with_the_mean_of_their_softened_probabilities(temperature: float) -> None:
    several = [Z, V, Z - V]
    classes = blend(several, "multiclass", temperature).numpy() / temperature
    labels = blend(several, "multilabel", temperature).numpy() / temperature
    np.testing.assert_allclose(
        softmax(classes), np.mean([softmax(v.numpy() / temperature) for v in several], axis=0), rtol=1e-12
    )
    wanted = np.mean([1 / (1 + np.exp(-v.numpy() / temperature)) for v in several], axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-labels)), wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_single_teacher_answers_as_it_does_and_huge_answers_stay_finite(kind: str) -> None:
    assert blend([V], kind, 2.0) is V  # type: ignore[arg-type]
    assert torch.isfinite(blend([V * 1e4, -V * 1e4], kind, 2.0)).all()  # type: ignore[arg-type]
