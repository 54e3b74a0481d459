"""A merged model answers as its un-merged one, or is refused with numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgefm.adapt.lora_linear import Chosen, LoraLinear
from edgefm.adapt.merge import check_merged, merge
from edgefm.data import load_data
from edgefm.errors import ParityError
from edgefm.train.images import Images

from ..models.probe_cases import image
from .adapted import MAKERS, adapted, answers
from .runs import Make

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["float", "int8", "nf4"])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_merged_it_answers_alike_in_plain_layers(tmp_path: Path, make, kind) -> None:
    model, layers = adapted(make(tmp_path / "model"), kind=kind)
    plain = merge(model.module)
    assert not any(isinstance(part, LoraLinear) for part in plain.modules())
    assert sum(isinstance(part, LoraLinear) for part in model.module.modules()) == len(layers)  # it stays as it was
    with torch.no_grad():
        found = plain(image(model, 3))
    for own, merged in zip(answers(model), found):
        torch.testing.assert_close(own, merged, rtol=1e-5, atol=1e-5)


def test_each_of_several_adapters_is_merged_as_itself(tmp_path: Path) -> None:
    chosen = Chosen(np.array([1, 0, 1], np.int64))
    model, _ = adapted(MAKERS[0](tmp_path / "model"), num=2, chosen=chosen)
    chosen(np.arange(3), CPU)
    together, _ = answers(model)
    with torch.no_grad():
        alone = [merge(model.module, number)(image(model, 3)).logits for number in (0, 1)]
    torch.testing.assert_close(together, torch.stack([alone[1][0], alone[0][1], alone[1][2]]), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=0.01)


def test_a_merge_that_went_wrong_is_refused_with_numbers(tmp_path: Path, make_data: Make) -> None:
    model, _ = adapted(MAKERS[0](tmp_path / "model"))
    images, rows = Images(load_data(make_data())), np.arange(5)
    plain = merge(model.module)
    assert check_merged(model, plain, images, rows, CPU) < 1e-5
    plain.model.blocks[1].mlp.fc2.weight.data[0] += 0.05
    with pytest.raises(
        ParityError, match=r"answers otherwise: logits differ by [\d.e-]+ of the largest .*expected at most 0\.0001"
    ):
        check_merged(model, plain, images, rows, CPU)
