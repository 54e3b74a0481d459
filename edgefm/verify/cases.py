"""Every image that gets another decision than the reference's, by name, worst first, for a person to look at.

Not how many there are (`statement.py`), and never part of a report unless it was asked for: here are file names and patients.

A spreadsheet takes a cell that begins with =, +, -, @, a tab or a line break for a formula and runs it ("CSV injection"): so
whoever names a file could reach whoever opens the list. As OWASP advises, such a cell gets a ' before it, and so does what
begins a cell where another character than the comma parts them; all cells are quoted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .answers import Answers
from .statement import flipped

Array = npt.NDArray[Any]
FORMULA = re.compile(r"^(?=[=+\-@\t\r\n])|([;,\t\r\n]\"*)(?=[=+\-@])")


def flipped_cases(
    answers: Sequence[Answers],
    reference: Answers | None,
    labels: Array | None,
    names: Sequence[str],
    patients: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """A record per image and contender that decides otherwise, the largest drift first, equal ones in the order of the images.

    Args:
        reference: one of `answers`, or None: then there are none, nor of an embedding.
        labels: as `Scores` takes them, or None. names, patients: one per image; of patients None where they are not known.

    Returns:
        `image`; `patient` and `label` (several with | between them, "" for none of them), None where not known; `variant`, the
        contender's name; `before` and `after`, what the reference and the contender decide, as `label`; `reference` and
        `probability`, their probabilities in the order of the task's labels; `drift`, the largest difference of a probability,
        0 to 1.
    """
    found: list[dict[str, Any]] = []
    for each in answers:
        if reference is None or each is reference or each.decided is None:
            continue
        assert each.probabilities is not None
        assert reference.probabilities is not None
        assert reference.decided is not None
        all_labels = each.contender.task.labels
        for i in np.flatnonzero(flipped(each, reference)).tolist():
            found.append(
                {
                    "image": _text(names[i]),
                    "patient": None if patients is None else _text(patients[i]),
                    "label": None if labels is None else _said(labels[i], all_labels),
                    "variant": each.contender.name,
                    "before": _said(reference.decided[i], all_labels),
                    "after": _said(each.decided[i], all_labels),
                    "reference": reference.probabilities[i].tolist(),
                    "probability": each.probabilities[i].tolist(),
                    "drift": float(np.abs(each.probabilities[i] - reference.probabilities[i]).max()),
                }
            )
    return sorted(found, key=lambda case: -case["drift"])


def cases_csv(cases: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bytes:
    """The records as UTF-8 CSV: a header, then one line per case; a column for each label's probability, before and after.

    Text that a spreadsheet would run has a ' before it, see above.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain = ("image", "patient", "label", "variant", "before", "after", "drift")
    writer.writerow([*plain, *(f"{when} p({label})" for label in labels for when in ("reference", "variant"))])
    for case in cases:
        pairs = zip(case["reference"], case["probability"])
        numbers = [f"{value:.6f}" for pair in pairs for value in pair]
        words = ["" if case[name] is None else _harmless(case[name]) for name in plain[:-1]]
        writer.writerow([*words, f"{case['drift']:.6f}", *numbers])
    return text.getvalue().encode()


def _said(decided: Any, labels: Sequence[str]) -> str:
    if np.ndim(decided):
        return "|".join(label for label, holds in zip(labels, decided) if holds)
    return labels[int(decided)]


def _harmless(cell: str) -> str:
    return FORMULA.sub(r"\1'", cell)


def _text(name: str) -> str:
    """A name that UTF-8 can hold: a file's name need not be text."""
    return name.encode("utf-8", "backslashreplace").decode()
