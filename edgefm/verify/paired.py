"""The classical tests of two models on the same images: DeLong's of the areas, McNemar's of the decisions.

For readers who expect them; the verdict comes from the intervals by patient (`gate.py`). Both count each image for itself,
which several images of one patient break, and neither can show that two models are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .answers import Answers
from .delong import delong
from .mcnemar import mcnemar

Array = npt.NDArray[Any]


def paired_tests(each: Answers, reference: Answers, labels: Array) -> dict[str, Any]:
    """`mcnemar`, as `mcnemar.McNemar` (one: this model; of several labels an image is right where all are), and for a binary
    task `delong`, as `delong.DeLong` (the difference is this model's less the reference's).

    Args:
        labels: as `Scores` takes them. The task is none of an embedding.
    """
    assert each.decided is not None
    assert reference.decided is not None
    one, other = ((decided == labels).reshape(len(labels), -1).all(axis=1) for decided in (each.decided, reference.decided))
    found: dict[str, Any] = {"mcnemar": mcnemar(np.asarray(one), np.asarray(other))._asdict()}
    if each.contender.task.kind == "binary" and each.probabilities is not None and reference.probabilities is not None:
        found["delong"] = delong(each.probabilities[:, 1], reference.probabilities[:, 1], labels == 1)._asdict()
    return found
