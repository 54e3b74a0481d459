"""What is compared of the attention of a teacher's and a student's layers. Not the divergence: `kernels/ops/attention_kl.py`.

    attention   the maps, softmax(q kᵀ / sqrt(d)): head by head where both have as many heads, else the means over the heads
    relation    softmax(x xᵀ / sqrt(d_r)) of the queries and of the values, cut into relation heads

Last layer to last layer unless the recipe says otherwise: MiniLM (Wang et al. 2020, section 3: maps and value relations, with
as many heads on both sides). Relations among queries, any number of heads, and relation heads narrower than heads (48 for a
teacher 768 wide, 16 each): MiniLMv2 (Wang et al. 2021, section 3), which also compares the keys; `attention` has these.

Both see the class token, where both have one, and the patches: the rows of a map are renormalised without the registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd, isqrt

import torch

from ..errors import InputError
from ..kernels.ops.attention_kl import attention_kl, relation_kl
from ..models.attention import Shape
from ..spec.recipe import LossRecipe

Pairs = tuple[tuple[int, int], ...]  # layers of teacher and student, both from 0
Answers = Mapping[str, torch.Tensor]  # queries, keys and values by name, `[N, H, T, d]`, see `models/attention.py`
NARROWEST = 16  # width of a teacher's relation head


def pair_layers(layers: Iterable[tuple[int, int]], teacher: tuple[Shape, ...], student: tuple[Shape, ...], name: str) -> Pairs:
    """The layers of a recipe, counted from 0.

    Args:
        layers: of teacher and student, from 0 or, below 0, from the end. teacher, student: the shape of each of their layers.
        name: of the teacher.

    Raises:
        InputError: there is no such layer, or the grids of patches differ.
    """
    pairs = tuple((_layer(t, teacher, f"the teacher {name}"), _layer(s, student, "the student")) for t, s in layers)
    for t, s in pairs:
        theirs, mine = isqrt(teacher[t][1]), isqrt(student[s][1])
        if theirs != mine:
            raise InputError(
                f"the teacher {name} attends to {theirs} x {theirs} patches, the student to {mine} x {mine}",
                expected="the same patches for the losses on attention and relations",
                do=f"take a student of {theirs} x {theirs} patches (tiny and small: 14 x 14, vit_wee_patch16_reg1_gap_256: "
                "16 x 16), or set distill.losses.attention and distill.losses.relation to 0",
            )
    return pairs


def _layer(number: int, shapes: tuple[Shape, ...], who: str) -> int:
    depth = len(shapes)
    if not -depth <= number < depth:
        raise InputError(
            f"distill.layers names layer {number} of {who}, which has {depth} attention layers",
            expected=f"{-depth} to {depth - 1}",
        )
    return number % depth


def noted(layers: Iterable[int], losses: LossRecipe) -> tuple[str, ...]:
    """What the losses need of some layers, by name."""
    parts = "q" * bool(losses.attention or losses.relation) + "k" * bool(losses.attention) + "v" * bool(losses.relation)
    return tuple(f"{part}{layer}" for layer in sorted(set(layers)) for part in parts)


def attention_loss(student: Answers, teacher: Answers, pairs: Pairs) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's to the student's attention maps, float32, a scalar.

    The mean over the pairs of layers of what `attention_kl` says at temperature 1.
    """
    found = []
    for t, s in pairs:
        q_s, q_t = _alike(student[f"q{s}"], teacher[f"q{t}"])
        k_s, k_t = _alike(student[f"k{s}"], teacher[f"k{t}"])
        found.append(attention_kl(q_s, k_s, q_t, k_t, heads="pairs" if q_s.shape[1] == q_t.shape[1] else "mean"))
    return torch.stack(found).mean()


def relation_loss(student: Answers, teacher: Answers, pairs: Pairs) -> torch.Tensor:
    """The same of the relations among queries and among values: the mean over the pairs of layers and over both."""
    found = []
    for t, s in pairs:
        for part in "qv":
            x_s, x_t = _alike(student[f"{part}{s}"], teacher[f"{part}{t}"])
            found.append(relation_kl(x_s, x_t, relation_heads(x_t.shape[1] * x_t.shape[3], x_s.shape[1] * x_s.shape[3])))
    return torch.stack(found).mean()


def relation_heads(teacher: int, student: int) -> int:
    """How many: as many as divide both widths and leave the teacher's at least 16 wide each; 1 where nothing does."""
    common = gcd(teacher, student)
    return max(heads for heads in range(1, common + 1) if common % heads == 0 and heads <= max(1, teacher // NARROWEST))


def _alike(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32, and without the class token that only one of them has: it is the first."""
    tokens = min(student.shape[2], teacher.shape[2])
    return student[:, :, -tokens:].float(), teacher[:, :, -tokens:].float()


def compared(pairs: Pairs, teacher: tuple[Shape, ...], student: tuple[Shape, ...], name: str, losses: LossRecipe) -> str:
    """A sentence on what the losses compare of the teacher called `name`."""
    each = []
    for t, s in pairs:
        theirs, mine = teacher[t], student[s]
        how = []
        if losses.attention:
            alike = mine[0] == theirs[0]
            how.append(f"{mine[0]} heads in pairs" if alike else f"the mean of {theirs[0]} and of {mine[0]} heads")
        if losses.relation:
            how.append(f"{relation_heads(theirs[0] * theirs[2], mine[0] * mine[2])} relation heads")
        each.append(f"{t} of {len(teacher)} with the student's {s} of {len(student)}, {', '.join(how)}")
    return f"attention layers of {name}, counted from 0: {'; '.join(each)}"
