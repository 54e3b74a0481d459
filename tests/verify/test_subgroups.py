"""Subgroups: a model that fails on one scanner only is found there, and small groups are told but never the worst."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.spec.task import Task, make_task
from edgefm.verify.answers import Answers
from edgefm.verify.columns import FEWEST, RARE, Column
from edgefm.verify.intervals import bootstrap_intervals
from edgefm.verify.scores import Scores
from edgefm.verify.subgroups import notes, subgroups

from .people import BINARY, contender

N = 400
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, N)
SCANNER = np.arange(N) // 2 % 4  # the same for both images of a patient
WHO = np.arange(N) // 2
GOOD = np.clip(0.5 + (LABELS - 0.5) * 0.6 + RANDOM.normal(0, 0.2, N), 0.01, 0.99)


def answer(name: str, p: np.ndarray, task: Task = BINARY) -> Answers:
    both = np.stack([1 - p, p], axis=1)
    made = contender(name, task=task)
    return Answers(contender=made, probabilities=both, decided=(p >= 0.5).astype(np.int64), embedding=None, cosine=None)


def column(member: np.ndarray, *values: str) -> Column:
    return Column("scanner", values, member)


ALL = column(SCANNER, "A", "B", "C", "D")


def test_a_model_that_fails_on_one_scanner_is_found_there_and_not_on_the_others() -> None:
    bad = np.where((SCANNER == 2) & (RANDOM.random(N) < 0.4), 0.3, GOOD)  # misses on scanner C
    reference = answer("teacher", GOOD)
    (found,) = subgroups(
        [ALL], [reference, answer("bad", bad), answer("same", GOOD)], reference, LABELS, WHO, seed=0, draws=200
    )
    assert found["worst"]["bad"]["sensitivity"] == "C"
    assert found["gap_change"]["bad"]["sensitivity"]["low"] > 0.1
    assert found["groups"][2]["difference"]["bad"]["sensitivity"]["high"] < -0.1
    for g in (0, 1, 3):
        assert found["groups"][g]["difference"]["bad"]["sensitivity"]["value"] == 0
        assert found["groups"][g]["flips"]["bad"] == {"count": 0, "of": 100}
    flips = found["groups"][2]["flips"]["bad"]["count"]
    assert flips == int(((bad >= 0.5) != (GOOD >= 0.5)).sum()) > 10
    assert found["chi_squared"]["bad"]["p"] < 1e-6
    same = found["gap_change"]["same"]["auc"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert np.isnan(found["chi_squared"]["same"]["p"])
    assert set(found["gap_change"]) == set(found["chi_squared"]) == {"bad", "same"}


def test_the_numbers_of_a_group_are_those_of_its_images_alone() -> None:
    (found,) = subgroups([ALL], [answer("m", GOOD)], None, LABELS, WHO, seed=3, draws=100)
    part = np.flatnonzero(SCANNER == 1)
    p = answer("m", GOOD).probabilities
    scores, rest = Scores(p, LABELS, BINARY), SCANNER == 1
    theirs = bootstrap_intervals(lambda rows: scores.metrics(rows[rest[rows]]), WHO, draws=100, seed=3)
    for name, mine in found["groups"][1]["metrics"]["m"].items():
        assert mine["value"] == pytest.approx(Scores(p[part], LABELS[part], BINARY).metrics(np.arange(100))[name])
        assert (mine["low"], mine["high"]) == pytest.approx((theirs[name].low, theirs[name].high))
    worst = min(found["groups"], key=lambda group: group["metrics"]["m"]["auc"]["value"])
    assert found["worst"]["m"]["auc"] == worst["value"]
    whole = scores.metrics(np.arange(N))
    assert found["gap"]["m"]["auc"]["value"] == pytest.approx(whole["auc"] - worst["metrics"]["m"]["auc"]["value"])
    most = max(found["groups"], key=lambda group: group["metrics"]["m"]["brier"]["value"])
    assert found["worst"]["m"]["brier"] == most["value"]
    assert found["gap"]["m"]["brier"]["value"] == pytest.approx(most["metrics"]["m"]["brier"]["value"] - whole["brier"])


def test_a_gap_by_hand() -> None:
    # 60 images each in X and Y, half of them ill. X: 27 of 30 ill are found; Y: 18 of 30. All: 45 of 60. Gap 0.75 - 0.6.
    member, labels = np.repeat([0, 1], 60), np.tile([0, 1], 60)
    ill = np.flatnonzero(labels == 1)
    p = np.where(labels == 1, 0.9, 0.1)
    p[ill[:3]] = p[ill[30:42]] = 0.1
    (found,) = subgroups([column(member, "X", "Y")], [answer("m", p)], None, labels, np.arange(120), seed=0, draws=50)
    assert found["worst"]["m"]["sensitivity"] == "Y"
    assert found["gap"]["m"]["sensitivity"]["value"] == pytest.approx(0.15)


def test_groups_too_small_are_told_and_never_the_worst() -> None:
    member = np.zeros(N, int)
    member[200:300], member[300:329], member[329:333] = 1, 2, 3
    p = np.where(member >= 2, 1 - GOOD, GOOD)  # wrong nearly everywhere on the small ones
    (found,) = subgroups([column(member, "A", "B", "29 images", RARE)], [answer("m", p)], None, LABELS, WHO, seed=0, draws=50)
    assert [group["judged"] for group in found["groups"]] == [True, True, False, False]
    assert found["groups"][2]["metrics"]["m"]["auc"]["value"] < 0.2
    assert found["groups"][2]["enough"] == []
    assert set(found["worst"]["m"].values()) <= {"A", "B"}
    assert list(notes([found])) == [
        f"too small to judge by scanner: 29 images, {RARE}",
        "2 groups were looked at, and of many one is worst by chance",
    ]


def test_many_images_of_few_patients_are_too_few() -> None:
    who = np.where(SCANNER == 0, WHO % 9, WHO)
    (found,) = subgroups([ALL], [answer("m", GOOD)], None, LABELS, who, seed=0, draws=20)
    assert [group["judged"] for group in found["groups"]] == [False, True, True, True]
    assert found["groups"][0]["images"] == 100


def test_a_group_of_one_class_is_judged_by_what_it_has() -> None:
    member = LABELS + (RANDOM.random(N) < 0.5) * LABELS  # as normal, bacteria, virus: a group is all negative or all positive
    (found,) = subgroups(
        [column(member, "normal", "bacteria", "virus")], [answer("m", GOOD)], None, LABELS, WHO, seed=0, draws=20
    )
    assert [group["enough"] for group in found["groups"]] == [["specificity"], ["sensitivity"], ["sensitivity"]]
    assert set(found["worst"]["m"]) == {"sensitivity"}  # of one group nothing is the worst


def classes(kind: str, labels: np.ndarray) -> Answers:
    """Of three classes or labels; `labels` as of the task."""
    task = make_task(kind, ("a", "b", "c"))  # type: ignore[arg-type]
    p = RANDOM.dirichlet(np.ones(3), len(labels))
    decided = p >= 0.5 if kind == "multilabel" else p.argmax(axis=1)
    return Answers(contender=contender("m", task=task), probabilities=p, decided=decided, embedding=None, cosine=None)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize(("count", "enough"), [(0, False), (1, False), (9, False), (10, True)])
def test_of_several_classes_the_rarest_one_decides_whether_there_are_enough(kind: str, count: int, enough: bool) -> None:
    truth = np.arange(N) % 2
    truth[200:300], truth[:count] = 2, 2  # c: many in all, `count` in the first group
    labels = truth if kind == "multiclass" else np.eye(3, dtype=int)[truth]
    member = (np.arange(N) >= 150).astype(int)
    found = subgroups([column(member, "A", "B")], [classes(kind, labels)], None, labels, np.arange(N), seed=0, draws=5)
    first, second = (set(group["enough"]) for group in found[0]["groups"])
    assert {"auc", "sensitivity", "balanced_accuracy", "f1"} <= second
    assert ("sensitivity" in first) is ("auc" in first) is ("f1" in first) is enough
    if kind == "multilabel":
        assert "specificity" in first  # each label is absent from many
    assert ("sensitivity" in found[0]["worst"]["m"]) is enough


def test_of_negatives_the_rarest_decides_too_and_a_class_that_no_image_has_does_not() -> None:
    labels = np.zeros((N, 3), int)
    labels[:, 0], labels[::2, 1] = 1, 1
    labels[:5, 0] = labels[200:240, 0] = 0  # 5 without a in the first group
    member = (np.arange(N) >= 150).astype(int)
    found = subgroups([column(member, "A", "B")], [classes("multilabel", labels)], None, labels, np.arange(N), seed=0, draws=5)
    first, second = (set(group["enough"]) for group in found[0]["groups"])
    assert "sensitivity" in first & second  # of a and b: nobody has c
    assert "specificity" in second - first


@pytest.mark.parametrize("patients", [1, FEWEST - 1, FEWEST])
def test_rare_values_of_too_few_patients_have_no_numbers_and_move_none(patients: int) -> None:
    who, member = np.arange(N), np.arange(N) % 2
    member[:40], who[:40] = 2, np.arange(40) % patients
    changed = np.where(member == 2, 1 - GOOD, GOOD)  # whoever is rare is decided otherwise
    reference, other = answer("teacher", GOOD), answer("other", changed)
    (found,) = subgroups([column(member, "A", "B", RARE)], [reference, other], reference, LABELS, who, seed=0, draws=20)
    rare = found["groups"][2]
    told = patients >= FEWEST
    assert all(bool(rare[key]) is told for key in ("metrics", "difference", "flips"))
    assert not rare["judged"]
    assert rare["enough"] == []
    assert RARE not in found["worst"]["other"].values()
    assert found["chi_squared"]["other"]["df"] == (2 if told else 1)
    assert np.isnan(found["chi_squared"]["other"]["p"]) is np.bool_(not told)
    assert all(group["metrics"] for group in found["groups"][:2])


def test_one_patient_has_numbers_and_no_intervals() -> None:
    (found,) = subgroups([ALL], [answer("m", GOOD)], None, LABELS, np.zeros(N), seed=0, draws=20)
    auc = found["groups"][0]["metrics"]["m"]["auc"]
    assert auc["value"] > 0.5
    assert np.isnan(auc["low"])
    assert not found["groups"][0]["judged"]


def test_without_labels_only_changed_decisions_are_counted() -> None:
    one, other = answer("one", GOOD), answer("other", np.where(SCANNER == 0, 1 - GOOD, GOOD))
    (found,) = subgroups([ALL], [one, other], one, None, WHO, seed=0, draws=20)
    assert found["groups"][0]["metrics"] == {"one": {}, "other": {}}
    assert [group["flips"]["other"]["count"] for group in found["groups"]] == [100, 0, 0, 0]
    assert found["worst"] == {"one": {}, "other": {}}


def test_embeddings_have_neighbours_and_cosines_by_group() -> None:
    task = make_task("embedding")
    vectors = np.stack([LABELS + RANDOM.normal(0, 0.2, N), np.ones(N)], axis=1).astype(np.float32)
    reference = Answers(
        contender=contender("t", task=task), probabilities=None, decided=None, embedding=vectors, cosine=np.ones(N)
    )
    cosine = np.where(SCANNER == 3, 0.5, 0.99)
    other = Answers(contender=contender("s", task=task), probabilities=None, decided=None, embedding=vectors, cosine=cosine)
    (found,) = subgroups([ALL], [reference, other], reference, LABELS, WHO, seed=0, draws=20)
    assert set(found["groups"][0]["metrics"]["t"]) == {"knn_accuracy"}
    assert found["worst"]["s"]["mean_cosine"] == "D"
    assert found["gap"]["s"]["mean_cosine"]["value"] == pytest.approx(0.99 - 0.49 / 4 - 0.5)
    assert set(found["gap_change"]["s"]) == {"knn_accuracy"}
    assert found["groups"][0]["flips"] == found["chi_squared"] == {}


def test_no_columns_take_no_time_and_give_nothing() -> None:
    assert subgroups([], [answer("m", GOOD)], None, LABELS, WHO, seed=0) == []
    assert list(notes([])) == []
