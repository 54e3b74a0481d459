"""From words in label cells to a task and numbers: binary, multiclass or multilabel, and in which order.

Not the reading of the cells (`table.py`, `folders.py`, `medmnist.py`).

The order of the labels is, first rule that applies: the teacher's, if it knows all of them; for two classes the negative
one first (the one named like "normal" or "no ..."), unless `positive` says otherwise; numbers by value; the alphabet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..spec.task import Task, make_task
from .dataset import UNKNOWN

_NEGATIVE = {
    "normal", "negative", "neg", "benign", "healthy", "none", "control", "0", "no", "false", "nofinding", "absent", "clear",
}  # fmt: skip
_NEGATIVE_START = ("no ", "non ", "not ", "without ")


def read_labels(
    cells: Sequence[tuple[str, ...] | None], *, multilabel: bool, order: tuple[str, ...] | None, positive: str
) -> tuple[Task, np.ndarray, tuple[str, ...]]:
    """The task, the labels as numbers, and what was chosen.

    Args:
        cells: the labels of each image, exactly one unless `multilabel`; None where they are not known.
        order: a teacher's labels; its order is taken if it knows every label in `cells`.
        positive: the positive class of a binary task, or "".

    Returns:
        task; labels as in `Dataset`; notes, one sentence each.

    Raises:
        InputError: one class only, or a `positive` that cannot be.
    """
    present = {label for cell in cells for label in cell or ()}
    known = order is not None and present <= set(order)
    notes: list[str] = []
    names = order if order is not None and known else tuple(sorted(present, key=_rank))
    if not known and not multilabel and len(present) < 2:
        only = f"all labels are '{names[0]}'" if names else "there are no labels"
        raise InputError(only, expected="at least two classes", do="add images of another class, or leave the labels out")
    if multilabel and not names:
        raise InputError("no image has any label", do="leave the label column out, or fill it")
    if not multilabel and len(names) == 2:
        names = _binary(names, known, positive, notes)
    elif positive:
        raise InputError(
            f"positive is '{positive}', but there are {len(names)} labels", expected="two", do="remove data.positive"
        )
    index = {label: number for number, label in enumerate(names)}
    if multilabel:
        hot = np.zeros((len(cells), len(names)), np.uint8)
        for row, cell in enumerate(cells):
            if cell is None:
                hot[row] = UNKNOWN % 256
            else:
                hot[row, [index[label] for label in cell]] = 1
        return make_task("multilabel", names), hot, tuple(notes)
    numbers = np.array([UNKNOWN if cell is None else index[cell[0]] for cell in cells], np.int64)
    return make_task("binary" if len(names) == 2 else "multiclass", names), numbers, tuple(notes)


def _binary(names: tuple[str, ...], known: bool, positive: str, notes: list[str]) -> tuple[str, ...]:
    if positive and positive not in names:
        raise InputError(f"positive is '{positive}', but the labels are '{names[0]}' and '{names[1]}'", do="name one of them")
    if known:
        if positive and positive != names[1]:
            raise InputError(f"positive is '{positive}', but for the teacher it is '{names[1]}'", do="remove data.positive")
        return names
    if positive:
        return names if names[1] == positive else names[::-1]
    first, second = (_is_negative(name, other) for name, other in (names, names[::-1]))
    if first == second:
        notes.append(f"'{names[1]}' is taken as the positive class because it sorts last; data.positive changes that")
        return names
    names = names[::-1] if second else names
    notes.append(
        f"'{names[1]}' is taken as the positive class because '{names[0]}' sounds negative; data.positive changes that"
    )
    return names


def _is_negative(name: str, other: str) -> bool:
    plain = name.lower().replace("_", " ").replace("-", " ")
    parts = [part.strip() for part in plain.split(",")]
    if all(part.replace(" ", "") in _NEGATIVE for part in parts):
        return True
    return plain.startswith(_NEGATIVE_START) and not other.lower().startswith(_NEGATIVE_START)


def _rank(label: str) -> tuple[int, int, str]:
    return (0, int(label), label) if label.isascii() and label.isdigit() else (1, 0, label)
