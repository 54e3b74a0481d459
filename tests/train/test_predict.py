"""Asking a model about images. Not what it answers: the models are toys."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgefm.models.loaded import Outputs
from edgefm.train.predict import answer


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> Outputs:
        return Outputs(None, x.mean(dim=(2, 3)))


def test_a_module_that_differs_by_image_is_told_which_images_come() -> None:
    module, told = Mean(), list[tuple[list[int], torch.device]]()
    x, rows = torch.rand(2, 3, 4, 4), np.array([7, 5])
    plain = answer(module, x, rows)
    module.by_image = lambda indexes, device: told.append((indexes.tolist(), device))  # type: ignore[assignment]
    torch.testing.assert_close(answer(module, x, rows).embedding, plain.embedding)
    assert told == [([7, 5], torch.device("cpu"))]
