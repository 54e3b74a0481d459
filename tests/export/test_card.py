"""The card repeats the manifest, all of it that binds or warns, and nothing else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgefm.export.card import OPEN, card, licences
from edgefm.spec.manifest import Ancestor
from edgefm.spec.task import Task, TaskKind
from tests.bundle.make_format1 import MANIFEST, PREPROCESS


def test_a_refusal_stands_before_everything_else() -> None:
    text = card(replace(MANIFEST, refused="3 % of decisions flipped"), PREPROCESS)
    assert text.index("**Refused:** 3 % of decisions flipped") < text.index("##")
    assert "Refused" not in card(MANIFEST, PREPROCESS)


def test_a_licence_that_nobody_stated_is_asked_for_by_name() -> None:
    lineage = (Ancestor(role="teacher", name="big", licence="unknown"), Ancestor(role="data", name="scans", licence="CC0-1.0"))
    text = licences(replace(MANIFEST, lineage=lineage))
    assert "- big (teacher): unknown" in text
    assert "- scans (data): CC0-1.0" in text
    assert "Nobody stated a licence for big: ask before" in text
    assert "Nobody" not in licences(MANIFEST)


@pytest.mark.parametrize(
    ("kind", "labels", "thresholds", "says"),
    [
        ("binary", ("no", "yes"), (0.25,), "Decision: yes from a probability of 0.25 on."),
        ("multiclass", ("a", "b", "c"), (), "multiclass: a, b, c."),
        ("multilabel", ("a", "b"), (0.5, 0.125), "multilabel: a (from 0.5), b (from 0.125)."),
        ("embedding", (), (), "An embedding; no classes."),
    ],
)
def test_each_task_says_what_it_answers_and_by_which_rule(
    kind: TaskKind, labels: tuple[str, ...], thresholds: tuple[float, ...], says: str
) -> None:
    task = Task(kind=kind, labels=labels, thresholds=thresholds)
    assert says in card(replace(MANIFEST, task=task), PREPROCESS)


def test_every_variant_has_a_row_of_as_many_cells_as_the_head_whatever_is_known_of_it() -> None:
    known, bare = MANIFEST.variants
    variants = (replace(known, accuracy={"auc": 0.9, "f1": 0.5}, flips=0.01), replace(bare, accuracy={}, parity=None))
    lines = card(replace(MANIFEST, variants=variants), PREPROCESS).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {6}
    assert table[0] == "| variant | auc | f1 | flips | parity |"
    assert table[2] == "| onnx-fp32 | 0.9000 | 0.5000 | 0.0100 | 0.0e+00 |"
    assert table[3].replace(" ", "") == "|openvino-int8|||||"


def test_what_goes_in_is_said_with_its_window() -> None:
    text = card(MANIFEST, replace(PREPROCESS, window16=(100.0, 4095.0)))
    assert "cut to 8 x 8 pixels, 1 channels; 16-bit values from 100 to 4095 span black to white" in text


def test_what_only_a_manufacturer_can_say_is_marked_and_not_guessed() -> None:
    text = card(MANIFEST, PREPROCESS)
    for topic in ("Regulatory status", "Patients it is meant for", "Known failures and contraindications", "Monitoring of its"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"- {topic}")]
        assert line.endswith(OPEN)


def test_without_data_the_card_says_that_nothing_was_measured() -> None:
    bare = tuple(replace(each, accuracy={}) for each in MANIFEST.variants)
    lineage = tuple(each for each in MANIFEST.lineage if each.role != "data")
    text = card(replace(MANIFEST, variants=bare, lineage=lineage), PREPROCESS)
    assert "Not measured: the bundle was made without data." in text
    assert "No data are recorded" in text


def test_probabilities_that_nobody_calibrated_are_a_limit() -> None:
    task = replace(MANIFEST.task, temperature=1.5)
    assert "were not calibrated" in card(replace(MANIFEST, task=replace(task, temperature=1.0)), PREPROCESS)
    assert "were not calibrated" not in card(replace(MANIFEST, task=task), PREPROCESS)
