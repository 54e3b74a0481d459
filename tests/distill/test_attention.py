"""What is compared of attention, by hand, and which layers are: formulas and pairs. Not a run (`test_attention_runs.py`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgefm.distill.attention import attention_loss, noted, pair_layers, relation_heads, relation_loss
from edgefm.errors import InputError
from edgefm.spec.recipe import LossRecipe

GENERATOR = torch.Generator().manual_seed(3)


def layers(*names: str, heads: int, tokens: int, width: int) -> dict[str, torch.Tensor]:
    return {name: torch.randn(2, heads, tokens, width, generator=GENERATOR) for name in names}


def maps(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """softmax(q kᵀ / sqrt(d)) of float64 `[B, H, N, d]`."""
    weights = np.exp(np.einsum("bhid,bhjd->bhij", q, k) / np.sqrt(q.shape[3]))
    return np.asarray(weights / weights.sum(axis=3, keepdims=True))


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """The mean over images, heads and rows of the sum over columns of t log(t / s)."""
    return float((teacher * np.log(teacher / student)).sum(axis=3).mean())


def plain(answers: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in answers.items()}


def split(x: np.ndarray, heads: int) -> np.ndarray:
    """`[B, H, N, d]` laid side by side and cut again."""
    rows = np.concatenate(list(x.transpose(1, 0, 2, 3)), axis=2)
    return np.stack(np.split(rows, heads, axis=2), axis=1)


def test_maps_are_compared_head_by_head_where_both_have_as_many() -> None:
    mine, theirs = layers("q1", "k1", heads=2, tokens=5, width=4), layers("q3", "k3", heads=2, tokens=5, width=8)
    s, t = plain(mine), plain(theirs)
    expected = divergence(maps(t["q3"], t["k3"]), maps(s["q1"], s["k1"]))
    assert attention_loss(mine, theirs, ((3, 1),)).item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_maps_are_compared_where_one_has_more_heads() -> None:
    mine, theirs = layers("q0", "k0", heads=2, tokens=5, width=4), layers("q0", "k0", heads=3, tokens=5, width=4)
    s, t = (maps(each["q0"], each["k0"]).mean(axis=1, keepdims=True) for each in (plain(mine), plain(theirs)))
    assert attention_loss(mine, theirs, ((0, 0),)).item() == pytest.approx(divergence(t, s), rel=1e-5)


def test_relations_are_those_among_queries_and_among_values_in_relation_heads() -> None:
    mine, theirs = layers("q0", "v0", heads=2, tokens=5, width=12), layers("q2", "v2", heads=6, tokens=5, width=8)
    s, t = plain(mine), plain(theirs)
    assert relation_heads(48, 24) == 3
    cut = [(split(t[f"{part}2"], 3), split(s[f"{part}0"], 3)) for part in "qv"]
    expected = np.mean([divergence(maps(a, a), maps(b, b)) for a, b in cut])
    assert relation_loss(mine, theirs, ((2, 0),)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("formula", [attention_loss, relation_loss])
def test_the_loss_is_the_mean_over_the_pairs_of_layers(formula: Any) -> None:
    names = [f"{part}{layer}" for part in "qkv" for layer in (0, 1)]
    mine, theirs = layers(*names, heads=2, tokens=5, width=16), layers(*names, heads=2, tokens=5, width=16)
    single = [formula(mine, theirs, (pair,)) for pair in ((0, 1), (1, 0))]
    torch.testing.assert_close(formula(mine, theirs, ((0, 1), (1, 0))), torch.stack(single).mean())
    assert formula(mine, mine, ((0, 0), (1, 1))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("who", ["teacher", "student"])
@pytest.mark.parametrize("formula", [attention_loss, relation_loss])
def test_a_class_token_that_only_one_has_is_left_out(formula: Any, who: str) -> None:
    mine, theirs = (layers("q0", "k0", "v0", heads=2, tokens=9, width=16) for _ in range(2))
    with_class = {"teacher": theirs, "student": mine}[who]
    longer = {name: torch.cat([torch.full((2, 2, 1, 16), 9.0), value], dim=2) for name, value in with_class.items()}
    found = formula(mine, longer, ((0, 0),)) if who == "teacher" else formula(longer, theirs, ((0, 0),))
    torch.testing.assert_close(found, formula(mine, theirs, ((0, 0),)))


def test_what_a_student_computed_in_bf16_is_compared_in_float32() -> None:
    mine, theirs = (layers("q0", "k0", "v0", heads=2, tokens=5, width=16) for _ in range(2))
    half = {name: value.bfloat16() for name, value in mine.items()}
    rounded = {name: value.float() for name, value in half.items()}
    for formula in (attention_loss, relation_loss):
        found = formula(half, theirs, ((0, 0),))
        assert found.dtype == torch.float32
        assert torch.equal(found, formula(rounded, theirs, ((0, 0),)))


@pytest.mark.parametrize(
    ("teacher", "student", "heads"),
    [(768, 384, 48), (1024, 384, 64), (384, 192, 24), (1536, 192, 96), (192, 96, 12), (64, 64, 4), (81, 64, 1), (8, 8, 1)],
)
def test_relation_heads_divide_both_widths_and_are_16_wide_at_least(teacher: int, student: int, heads: int) -> None:
    assert relation_heads(teacher, student) == heads


FOUR, SIX = ((6, 197, 64),) * 4, ((3, 197, 64),) * 6


def test_layers_are_counted_from_either_end() -> None:
    assert pair_layers([(-1, -1), (0, 0), (3, -6)], FOUR, SIX, "t") == ((3, 5), (0, 0), (3, 0))


@pytest.mark.parametrize(
    ("pair", "found"),
    [
        ((4, -1), "layer 4 of the teacher big, which has 4 attention layers; expected -4 to 3"),
        ((-1, -7), "layer -7 of the student, which has 6 attention layers; expected -6 to 5"),
    ],
)
def test_a_layer_that_there_is_not_is_refused_with_the_depth(pair: tuple[int, int], found: str) -> None:
    with pytest.raises(InputError, match=found):
        pair_layers([pair], FOUR, SIX, "big")


def test_patches_that_differ_are_refused_with_what_to_take() -> None:
    with pytest.raises(InputError, match=r"big attends to 16 x 16 patches, the student to 14 x 14; .*Take a student"):
        pair_layers([(-1, -1)], ((6, 257, 64),), SIX, "big")
    assert pair_layers([(-1, -1)], ((6, 196, 64),), SIX, "big") == ((0, 5),)  # only one has a class token


def test_only_what_the_losses_need_is_noted() -> None:
    assert noted([5, 1, 5], LossRecipe(attention=1.0)) == ("q1", "k1", "q5", "k5")
    assert noted([2], LossRecipe(relation=1.0)) == ("q2", "v2")
    assert noted([2], LossRecipe(attention=1.0, relation=1.0)) == ("q2", "k2", "v2")
    assert noted([2], LossRecipe()) == ()
