"""The images that are decided otherwise: which, for whom, by how much, and the worst first."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.spec.task import Task, make_task
from edgefm.verify.answers import Answers
from edgefm.verify.cases import cases_csv, flipped_cases

from .people import BINARY, contender


def answer(name: str, *p: float) -> Answers:
    both = np.stack([1 - np.array(p), p], axis=1)
    decided = (np.array(p) >= 0.5).astype(np.int64)
    return Answers(contender=contender(name), probabilities=both, decided=decided, embedding=None, cosine=None)


def several(name: str, task: Task, rows: list[list[float]]) -> Answers:
    p = np.array(rows)
    return Answers(
        contender=contender(name, task=task),
        probabilities=p,
        decided=p >= np.array(task.thresholds),
        embedding=None,
        cosine=None,
    )


def test_only_changed_decisions_are_told_the_largest_drift_first() -> None:
    reference = answer("teacher", 0.4, 0.9, 0.1, 0.6)
    one, other = answer("int8", 0.6, 0.8, 0.95, 0.6), answer("fp32", 0.45, 0.9, 0.1, 0.2)
    names, patients = ("a.png", "b.png", "c.png", "d.png"), ("P1", "P1", "P2", "P3")
    found = flipped_cases([reference, one, other], reference, np.array([1, 1, 0, 1]), names, patients)
    assert [(case["image"], case["variant"]) for case in found] == [("c.png", "int8"), ("d.png", "fp32"), ("a.png", "int8")]
    worst = found[0]
    assert (worst["patient"], worst["label"], worst["before"], worst["after"]) == ("P2", "normal", "normal", "ill")
    assert np.allclose(worst["reference"], [0.9, 0.1])
    assert np.allclose(worst["probability"], [0.05, 0.95])
    assert np.isclose(worst["drift"], 0.85)


def test_of_several_labels_any_may_change_and_an_image_may_have_none() -> None:
    task = replace(make_task("multilabel", ("mass", "hernia", "nodule")), thresholds=(0.5, 0.3, 0.5))
    reference = several("teacher", task, [[0.6, 0.4, 0.1], [0.1, 0.1, 0.1]])
    other = several("int8", task, [[0.6, 0.2, 0.1], [0.1, 0.1, 0.1]])
    (case,) = flipped_cases([reference, other], reference, np.array([[1, 1, 0], [0, 0, 0]]), ("a", "b"), None)
    assert (case["patient"], case["label"], case["before"], case["after"]) == (None, "mass|hernia", "mass|hernia", "mass")
    back = flipped_cases([other, several("none", task, [[0.1] * 3, [0.1] * 3])], other, None, ("a", "b"), None)
    assert (back[0]["label"], back[0]["before"], back[0]["after"]) == (None, "mass", "")


def test_without_a_reference_without_decisions_and_without_changes_there_are_none() -> None:
    one = answer("one", 0.4)
    vector = Answers(
        contender=contender("t", task=make_task("embedding")),
        probabilities=None,
        decided=None,
        embedding=np.ones((1, 2), np.float32),
        cosine=None,
    )
    assert flipped_cases([one], None, None, ("a",), None) == []
    assert flipped_cases([one, answer("same", 0.4)], one, None, ("a",), None) == []
    assert flipped_cases([vector, vector], vector, None, ("a",), None) == []


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_begins_as_a_spreadsheet_runs_it(first: str) -> None:
    task = replace(BINARY, labels=(f"{first}normal", f"{first}ill"))
    p = np.array([[0.6, 0.4]])
    one, other = (
        Answers(
            contender=contender(name, task=task), probabilities=each, decided=each.argmax(axis=1), embedding=None, cosine=None
        )
        for name, each in (("teacher", p), (f"{first}int8", 1 - p))
    )
    name, patient = f"{first}HYPERLINK(1)", f"{first}2+3"
    found = flipped_cases([one, other], one, np.array([1]), (name,), (patient,))
    text = cases_csv(found, task.labels).decode()
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert not any(cell.startswith(first) for cell in (*head, *row))
    assert row[:6] == [f"'{each}" for each in (name, patient, f"{first}ill", f"{first}int8", f"{first}normal", f"{first}ill")]
    harmless = flipped_cases([one, other], one, None, (f"a{first}b",), ("P-1",))
    assert list(csv.reader(io.StringIO(cases_csv(harmless, task.labels).decode(), newline="")))[1][:2] == [f"a{first}b", "P-1"]


@pytest.mark.parametrize("inside", [";=cmd", ';"=cmd', ",+1", "\t-1", "\r\n@SUM(A1)"])
def test_nor_does_one_where_another_character_parts_cells(inside: str) -> None:
    reference = answer("teacher", 0.4)
    found = flipped_cases([reference, answer("int8", 0.6)], reference, None, (f"a{inside}",), ("b=c-d",))
    text = cases_csv(found, BINARY.labels).decode()
    _, row = csv.reader(io.StringIO(text, newline=""))
    at = next(at for at, each in enumerate(inside) if each in "=+-@")
    assert row[:2] == [f"a{inside[:at]}'{inside[at:]}", "b=c-d"]
    for separator in ";,\t":
        cells = [cell for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in line]
        assert not any(cell.startswith(tuple("=+-@")) for cell in cells)


def test_the_csv_keeps_commas_quotes_line_breaks_and_names_that_are_no_text() -> None:
    reference = answer("teacher", 0.4)
    names = ('a, "b"\n\udcff.png',)
    found = flipped_cases([reference, answer("int8", 0.6)], reference, None, names, None)
    head, row = csv.reader(io.StringIO(cases_csv(found, BINARY.labels).decode()))
    assert head[:7] == ["image", "patient", "label", "variant", "before", "after", "drift"]
    assert head[7:] == ["reference p(normal)", "variant p(normal)", "reference p(ill)", "variant p(ill)"]
    assert row[:7] == ['a, "b"\n\\udcff.png', "", "", "int8", "normal", "ill", "0.200000"]
    assert [float(value) for value in row[7:]] == [0.6, 0.4, 0.4, 0.6]
    assert cases_csv([], BINARY.labels).decode().count("\n") == 1
