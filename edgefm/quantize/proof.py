"""What a yes of the gate proves: how few images bound the share of changed decisions, and how many a limit takes.

Not the gate's rule (`decide.py`), which looks at what was found on those images and at nothing beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..runtime.decide import decisions, probabilities
from ..spec.recipe import QuantizeRecipe
from ..spec.task import Task
from .findings import Findings

MISSED = 0.05  # chance that the bound is too low


def bound(n: int) -> float:
    """The share of decisions, 0 to 1, that may change on others where none of `n` changed: at 95 %, one-sided, exact.

    1 - 0.05^(1/n), Clopper and Pearson 1934; about 3 / n, the rule of three.
    """
    return float(1 - MISSED ** (1 / n))


def needed(limit: float) -> int | None:
    """How many without a change it takes for a bound of at most `limit`, 0 to 1; None where no number does."""
    if limit <= 0:
        return None
    return 1 if limit >= 1 - MISSED else math.ceil(math.log(MISSED) / math.log(1 - limit))


def unproved(findings: Findings, recipe: QuantizeRecipe) -> str | None:
    """A sentence where even no change at all would not prove the gate's limit for others; None where it would.

    None for an embedding, too: it decides nothing.
    """
    share = _proved(findings)
    if share is None or share <= recipe.max_flips:
        return None
    enough, unit = needed(recipe.max_flips), _unit(findings)
    takes = f"takes {enough:,} {unit}s" if enough else f"takes more {unit}s than there are"
    return (
        f"a change that never happened to {_count(findings)} may still happen to {100 * share:.1f} % of others (95 %): "
        f"proving at most {100 * recipe.max_flips:g} % {takes}"
    )


def yes(findings: Findings, recipe: QuantizeRecipe) -> str:
    """The gate's yes, with the images it stands on and, where they are too few for its limit, what they can prove."""
    said = f"the gate says yes, on {_count(findings)}"
    share = _proved(findings)
    if share is None or share <= recipe.max_flips:
        return said
    return f"{said}, which can prove no more than that at most {100 * share:.1f} % of decisions change"


def one_answer(outputs: Mapping[str, np.ndarray], task: Task) -> str | None:
    """A sentence where a model decides the same for every image, so that no lost decision could be seen; None elsewhere.

    Args:
        outputs: the torch model's, "logits" `[N, K]`; without them (an embedding) and for one image: None.
    """
    if task.kind == "embedding" or len(outputs["logits"]) < 2:
        return None
    decided = decisions(probabilities(outputs["logits"], task), task)
    if (decided != decided[0]).any():
        return None
    return (
        f"fp32 decides the same for all {len(decided):,} images: that int8 does so too proves nothing. "
        "Is the model trained? edgefm verify --against asks whether it is any good"
    )


def chosen(name: str, trials: int) -> str | None:
    """What the choice among several trials means for the intervals; None for one trial."""
    if trials < 2:
        return None
    return (
        f"'{name}' was chosen among {trials} trials on these same images, which the intervals do not know: "
        "it may lose more on others; edgefm verify asks the test images"
    )


def gate(findings: Findings, recipe: QuantizeRecipe, refused: str | None) -> dict[str, Any]:
    """The gate for `evidence/quantize.json`: its limits, what it looked at, its word, and the bound if nothing had changed."""
    return {
        "images": findings.n,
        "patients": findings.patients,
        "max_drop": recipe.max_drop,
        "max_flips": recipe.max_flips,
        "verdict": yes(findings, recipe) if refused is None else f"the gate says no: {refused}",
        "provable_flips": _proved(findings),
        "unproved": unproved(findings, recipe),
    }


def _proved(findings: Findings) -> float | None:
    """`bound` of the patients, or of the images where no patients are known; None for an embedding, which decides nothing."""
    return None if findings.kind == "embedding" else bound(findings.patients or findings.n)


def _unit(findings: Findings) -> str:
    return "image" if findings.patients is None else "patient"


def _count(findings: Findings) -> str:
    count, unit = findings.patients or findings.n, _unit(findings)
    return f"{count:,} {unit}" + ("s" if count != 1 else "")
