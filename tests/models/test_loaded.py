"""How many logits make which task; and the types come without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgefm.models.loaded import task_of


@pytest.mark.parametrize(
    ("classes", "labels", "multilabel", "kind", "named"),
    [
        (0, (), False, "embedding", ()),
        (0, ("a",), True, "embedding", ()),
        (1, (), False, "multilabel", ("0",)),
        (2, (), False, "binary", ("0", "1")),
        (2, ("no", "yes"), False, "binary", ("no", "yes")),
        (2, ("a", "b"), True, "multilabel", ("a", "b")),
        (3, (), False, "multiclass", ("0", "1", "2")),
        (3, (), True, "multilabel", ("0", "1", "2")),
    ],
)
def test_the_number_of_logits_decides_the_task(
    classes: int, labels: tuple[str, ...], multilabel: bool, kind: str, named: tuple[str, ...]
) -> None:
    task = task_of(classes, labels, multilabel=multilabel)
    assert (task.kind, task.labels) == (kind, named)
    assert all(threshold == 0.5 for threshold in task.thresholds)


@pytest.mark.parametrize(("classes", "labels"), [(2, ("a",)), (2, ("a", "b", "c")), (3, ("a", "b", "a"))])
def test_names_that_do_not_fit_are_refused(classes: int, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="label"):
        task_of(classes, labels)


def test_the_types_come_without_torch() -> None:
    code = "import sys, edgefm.models.loaded; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
