"""What a step is held to: each term its formula on the right answers, and nothing that does not apply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefm.distill.losses import feature_loss, logit_loss, spread
from edgefm.distill.patches import resample_patches
from edgefm.distill.projector import Projectors
from edgefm.distill.targets import TeacherTarget
from edgefm.models import Outputs
from edgefm.spec.recipe import LossRecipe
from edgefm.train.objective import Batch, LabelObjective

from .conftest import Open, quiet

Make = Callable[..., Path]
ROWS = np.array([4, 1, 7])
GENERATOR = torch.Generator().manual_seed(0)
MINE = Outputs(torch.randn(3, 2, generator=GENERATOR), torch.randn(3, 6, generator=GENERATOR), torch.randn(3, 5, 2, 2))


@pytest.fixture
def target(open_cache: Open, make_data: Make, grid_teacher: Any) -> Callable[..., TeacherTarget]:
    def make(**weights: float) -> TeacherTarget:
        cache = open_cache(grid_teacher, make_data(), views=2)
        losses = LossRecipe(**{"logits": 0.0, "features": 0.0, "tokens": 0.0, "labels": 0.0} | weights)
        labels = cache.images.dataset.labels
        assert labels is not None
        beside = None
        if losses.labels:
            beside = LabelObjective(labels, np.arange(10), "binary", 2, torch.device("cpu"), losses.labels)
        projectors = Projectors((6, 8), (5, 3), seed=0)
        made = TeacherTarget([cache], losses, [projectors], beside, kind="binary", temperature=3.0, device=torch.device("cpu"))
        made.prepare(1, quiet)
        return made

    return make


def test_only_what_has_a_weight_is_a_term(target: Callable[..., TeacherTarget]) -> None:
    batch = Batch(ROWS, 1, ROWS)
    assert set(target(logits=1.0)(MINE, batch)) == {"logits"}
    assert set(target(features=1.0, labels=1.0)(MINE, batch)) == {"features", "labels"}
    assert set(target(tokens=1.0)(MINE, batch)) == {"tokens"}


def test_each_term_is_its_formula_on_the_answers_about_this_view(target: Callable[..., TeacherTarget]) -> None:
    made = target(logits=0.5, features=2.0, tokens=3.0)
    terms = made(MINE, Batch(ROWS, 1, ROWS))
    said, first = made.caches[0].of(ROWS), made.caches[0].sample(quiet)
    project: Any = made.projectors[0]
    assert MINE.logits is not None
    assert MINE.tokens is not None
    patches = made.caches[0].questions.patches_of(ROWS, 1)
    tokens = project.tokens(resample_patches(MINE.tokens, patches, (4, 4)))
    wanted = {
        "logits": 0.5 * logit_loss(MINE.logits, said["logits"], "binary", 3.0),
        "features": 2.0 * feature_loss(project.features(MINE.embedding), said["embedding"], spread(first["embedding"])),
        "tokens": 3.0 * feature_loss(tokens, said["tokens"], spread(first["tokens"])),
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value)
    made.prepare(0, quiet)
    other = made(MINE, Batch(ROWS, 0, ROWS))
    assert all(other[name] != terms[name] for name in wanted)


def test_a_batch_that_was_cut_adds_up_to_the_whole(target: Callable[..., TeacherTarget]) -> None:
    made = target(logits=1.0, features=1.0, tokens=1.0, labels=1.0)
    whole = made(MINE, Batch(ROWS, 1, ROWS))
    pieces: dict[str, torch.Tensor] = {}
    for part in ([0, 1], [2]):
        outputs = Outputs(*(each[part] for each in MINE if each is not None))
        for name, value in made(outputs, Batch(ROWS[part], 1, ROWS)).items():
            pieces[name] = pieces.get(name, torch.zeros(())) + value * len(part) / 3
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value)


def test_the_projectors_learn_from_what_they_project(target: Callable[..., TeacherTarget]) -> None:
    made = target(features=1.0, tokens=1.0)
    torch.stack(list(made(MINE, Batch(ROWS, 1, ROWS)).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in made.projectors[0].parameters())


def test_a_student_that_has_the_teachers_features_loses_nothing() -> None:
    t = torch.randn(3, 4, 8, generator=GENERATOR)
    assert feature_loss(t, t, spread(t)).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(2 * t, t, spread(t)).item() > 0.1  # right direction, wrong size
    assert feature_loss(-t, t, spread(t)).item() > 2


def test_projectors_are_a_function_of_the_seed_and_leave_torchs_randomness_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (Projectors((6, 8), None, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.features is not None and same.features is not None and other.features is not None  # noqa: PT018
    assert torch.equal(one.features.weight, same.features.weight)
    assert not torch.equal(one.features.weight, other.features.weight)
    assert one.learn
    assert not Projectors(None, None, 0).learn
