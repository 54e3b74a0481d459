"""The one forward convention, whatever model is inside. Known medical encoders: test_encoders.py; grids: test_tokens.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from edgefm.models.encoder import ImageTower, ModuleEncoder, TimmEncoder, TransformersEncoder
from edgefm.models.loaded import Outputs

from .conftest import TINY_VIT, randomise

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def vit(**options: Any) -> Any:
    return randomise(timm.create_model("vit_tiny_patch16_224", **{**TINY_VIT, **options}))


def wrapped(model: Any, pooling: Any = "own") -> Outputs:
    with torch.no_grad():
        return TimmEncoder(model, architecture="vit_tiny_patch16_224", arguments={}, pooling=pooling).eval()(X)  # type: ignore[no-any-return]


def test_a_model_without_a_classifier_has_no_logits() -> None:
    found = wrapped(vit(num_classes=0))
    assert found.logits is None
    assert found.tokens is None
    assert found.embedding.shape == (2, 32)


def test_logits_are_what_the_classifier_makes_of_the_embedding() -> None:
    model = vit(num_classes=3)
    found = wrapped(model)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(X))
        torch.testing.assert_close(model.head(found.embedding), found.logits)


def test_class_and_patches_stand_side_by_side_past_the_registers() -> None:
    model = vit(num_classes=0, reg_tokens=4)
    found = wrapped(model, "class+patches")
    with torch.no_grad():
        tokens = model.forward_features(X)
    assert tokens.shape[1] == 1 + 4 + 4
    torch.testing.assert_close(found.embedding, torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1))


def test_a_projection_is_the_embedding_and_no_logits() -> None:
    model = vit(num_classes=7)
    found = wrapped(model, "projected")
    assert found.logits is None
    with torch.no_grad():
        torch.testing.assert_close(found.embedding, model(X))


class Body(nn.Module):
    """As transformers answers: tokens `[N, 7, D]` and a pooler's `[N, D, 1, 1]`."""

    def forward(self, pixel_values: torch.Tensor) -> Any:
        tokens = torch.arange(7.0)[None, :, None] * torch.ones(len(pixel_values), 1, 4)
        return SimpleNamespace(last_hidden_state=tokens, pooler_output=tokens[:, 3, :, None, None])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("class", [0.0] * 4), ("pooler", [3.0] * 4), ("class+patches", [0.0] * 4 + [4.5] * 4)],
)
def test_each_pooling_of_a_transformers_model_is_what_it_says(pooling: Any, expected: list[float]) -> None:
    encoder = TransformersEncoder(Body(), None, pooling=pooling, prefix=3)
    found = encoder(X)
    assert found.logits is None
    assert found.embedding.tolist() == [expected] * 2
    encoder.tokens = True
    assert encoder(X).tokens.shape == (2, 4, 2, 2)


def test_a_classifier_stands_on_the_pooled_features() -> None:
    classifier = randomise(nn.Linear(4, 2))
    with torch.no_grad():
        found = TransformersEncoder(Body(), classifier, pooling="pooler", prefix=3)(X)
        torch.testing.assert_close(found.logits, classifier(found.embedding))


def test_a_tower_ends_in_its_projection() -> None:
    trunk = vit(num_classes=0)
    with torch.no_grad():
        plain = trunk(X)
        found = ImageTower(trunk, nn.Linear(32, 5), architecture="x", arguments={})(X)
    assert plain.shape == (2, 32)
    assert (found.logits, found.embedding.shape) == (None, (2, 5))


@pytest.mark.parametrize(
    ("answer", "classifies", "logits", "embedding"),
    [
        (lambda x: x.mean(dim=(2, 3)), False, None, 3),
        (lambda x: x.mean(dim=(2, 3)), True, 3, 3),
        (lambda x: (x[:, :2, 0, 0], x[:, 0, :, 0]), False, 2, 32),
        (lambda x: (None, x[:, 0, :, 0], x), True, None, 32),
        (lambda x: Outputs(x[:, :2, 0, 0], x[:, 0, :, 0]), False, 2, 32),
    ],
)
def test_a_users_module_may_answer_in_every_way_that_can_be_told(
    answer: Any, classifies: bool, logits: int | None, embedding: int
) -> None:
    class Answers(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return answer(x)

    found = ModuleEncoder(Answers(), classifies=classifies)(X)
    assert (None if found.logits is None else found.logits.shape[1]) == logits
    assert found.embedding.shape == (2, embedding)
