"""The clinical gate's limits: how much worse than its reference a model may be. Not the judging: `verify/gate.py`.

| what | a loss is | default, with classes | default, embedding |
|---|---|---|---|
| `auc` | a fall, absolute | 0.02 | |
| `balanced_accuracy` | a fall | 0.03 | |
| `sensitivity`, `specificity` | a fall, at the stored threshold | 0.05 | |
| `f1` | a fall | not judged | |
| `brier` | a rise | not judged | |
| `calibration_slope` | by how much it is further from 1, as a logarithm; 0.4: 1.5 times too sure | 0.4 | |
| `flips` | the share of changed decisions | 0.10 | |
| `knn_accuracy` | a fall | | 0.03 |
| `mean_cosine` | what is missing to 1 | | 0.05 |

The defaults are no clinical advice: whoever puts a model in front of patients states margins of their own, and does so before
looking at the data (FDA 2016, "Non-Inferiority Clinical Trials to Establish Effectiveness").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from .task import TaskKind

Margin = Annotated[float, Meta(gt=0.0, le=1.0)] | None


class Gate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Margins, absolute, above 0; None leaves a number out of the verdict. See the table above."""

    auc: Margin = None
    balanced_accuracy: Margin = None
    sensitivity: Margin = None
    specificity: Margin = None
    f1: Margin = None
    brier: Margin = None
    calibration_slope: Margin = None
    flips: Margin = None
    knn_accuracy: Margin = None
    mean_cosine: Margin = None

    def margins(self) -> dict[str, float]:
        """What is judged, by name."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: margin for name, margin in found.items() if margin is not None}


_CLASSES = Gate(auc=0.02, balanced_accuracy=0.03, sensitivity=0.05, specificity=0.05, calibration_slope=0.4, flips=0.10)
DEFAULTS: Mapping[TaskKind, Gate] = {
    "binary": _CLASSES,
    "multiclass": _CLASSES,
    "multilabel": _CLASSES,
    "embedding": Gate(knn_accuracy=0.03, mean_cosine=0.05),
}
