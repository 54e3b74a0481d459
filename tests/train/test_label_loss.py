"""Cross-entropy with class weights against plain formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefm.train.label_loss import class_weights, label_loss

LABELS = np.array([0, 1, 1, 1, 2, 1, 1, 1])
SEVERAL = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [1, 0, 1]], np.uint8)


def test_every_class_weighs_the_same_in_all() -> None:
    weights = class_weights(LABELS, 3)
    assert [weights[k] * np.sum(k == LABELS) for k in range(3)] == pytest.approx([8 / 3] * 3)


def test_a_class_that_does_not_occur_weighs_nothing() -> None:
    assert class_weights(LABELS, 4)[3] == 0
    assert class_weights(SEVERAL, 3)[1].tolist() == [0.5, 0]


def test_a_very_rare_class_weighs_ten_times_the_mean_at_most() -> None:
    assert class_weights(np.array([0] * 9999 + [1]), 2)[1] == 10


def test_the_loss_of_single_labels_is_its_formula() -> None:
    z = torch.randn(8, 3, dtype=torch.float64)
    weights = class_weights(LABELS, 3)
    p = z.softmax(dim=1).numpy()
    w = weights.numpy()[LABELS]
    wanted = -(w * np.log(p[np.arange(8), LABELS])).sum() / w.sum()
    assert label_loss(z, torch.from_numpy(LABELS), weights).item() == pytest.approx(wanted, rel=1e-6)


def test_the_loss_of_several_labels_is_its_formula() -> None:
    z = torch.randn(4, 3, dtype=torch.float64)
    weights = class_weights(SEVERAL, 3)
    p = z.sigmoid().numpy()
    w = np.where(SEVERAL == 1, weights[:, 1], weights[:, 0])
    wanted = -(w * np.log(np.where(SEVERAL == 1, p, 1 - p))).sum() / w.sum()
    assert label_loss(z, torch.from_numpy(SEVERAL), weights).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["single", "several"])
def test_the_gradients_are_right(labels: np.ndarray) -> None:
    z = torch.randn(len(labels), 3, dtype=torch.float64, requires_grad=True)
    weights = class_weights(labels, 3)
    assert torch.autograd.gradcheck(lambda z: label_loss(z, torch.from_numpy(labels), weights), (z,))


def test_a_batch_of_weightless_images_costs_nothing() -> None:
    assert label_loss(torch.randn(2, 2), torch.tensor([1, 1]), torch.tensor([1.0, 0.0])).item() == 0


@pytest.mark.parametrize(("labels", "unknown"), [(LABELS, -1), (SEVERAL, 255)], ids=["single", "several"])
def test_images_whose_labels_are_not_known_cost_nothing(labels: np.ndarray, unknown: int) -> None:
    weights = class_weights(labels, 3)
    more = torch.from_numpy(np.insert(labels, [0, 2, 2], unknown, axis=0))
    z = torch.randn(len(more), 3, dtype=torch.float64, requires_grad=True)
    loss = label_loss(z, more, weights)
    known = (more if more.ndim == 1 else more[:, 0]) != unknown
    assert loss.item() == pytest.approx(label_loss(z[known], torch.from_numpy(labels), weights).item(), rel=1e-6)
    (slope,) = torch.autograd.grad(loss, z)
    assert (slope.abs().sum(dim=1) > 0).tolist() == known.tolist()


def test_a_batch_without_a_known_label_costs_nothing() -> None:
    z = torch.randn(3, 2, requires_grad=True)
    loss = label_loss(z, torch.tensor([-1, -1, -1]), torch.tensor([1.0, 1.0]))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()
