"""Which class comes first, and when labels are refused."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.data.labels import read_labels
from edgefm.errors import InputError


def single(*labels: str, **options):
    return read_labels([(label,) for label in labels], **({"multilabel": False, "order": None, "positive": ""} | options))


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("normal", "abnormal"),
        ("NORMAL", "PNEUMONIA"),
        ("negative", "covid"),
        ("benign", "malignant"),
        ("normal, benign", "malignant"),
        ("No Finding", "Effusion"),
        ("no_finding", "finding"),
        ("no tumour", "brain tumour"),
        ("non-TB", "TB"),
        ("without", "with"),
        ("0", "1"),
        ("no", "yes"),
        ("false", "true"),
        ("control", "case"),
        ("clear", "opacity"),
    ],
)
def test_the_negative_class_comes_first_and_is_said(negative, positive):
    for labels in [(negative, positive), (positive, negative)]:
        task, numbers, notes = single(*labels)
        assert task.kind == "binary"
        if negative != "without":
            assert task.labels == (negative, positive)
            assert f"'{positive}' is taken as the positive class because '{negative}' sounds negative" in notes[0]
        assert [task.labels[i] for i in numbers] == list(labels)


def test_two_classes_of_unknown_meaning_are_sorted_and_that_is_said():
    task, _, notes = single("nv", "mel")
    assert task.labels == ("mel", "nv")
    assert notes == ("'nv' is taken as the positive class because it sorts last; data.positive changes that",)


def test_positive_overrides_and_must_be_one_of_two():
    task, numbers, notes = single("normal", "sick", positive="normal")
    assert task.labels == ("sick", "normal")
    assert numbers.tolist() == [1, 0]
    assert notes == ()
    with pytest.raises(InputError, match="positive is 'ill', but the labels are 'normal' and 'sick'"):
        single("normal", "sick", positive="ill")
    with pytest.raises(InputError, match="but there are 3 labels; expected two"):
        single("a", "b", "c", positive="a")


def test_a_teachers_order_is_taken_if_it_knows_all_labels():
    task, numbers, notes = single("sick", "normal", order=("sick", "normal"))
    assert (task.labels, numbers.tolist(), notes) == (("sick", "normal"), [0, 1], ())
    task, numbers, _ = single("c", "a", order=("c", "b", "a"))
    assert (task.kind, task.labels, numbers.tolist()) == ("multiclass", ("c", "b", "a"), [0, 2])
    assert single("x", "normal", order=("sick", "normal"))[0].labels == ("normal", "x")
    assert single("normal", "normal", order=("normal", "sick"))[1].tolist() == [0, 0]
    with pytest.raises(InputError, match="positive is 'sick', but for the teacher it is 'normal'"):
        single("sick", "normal", order=("sick", "normal"), positive="sick")


def test_numbers_are_sorted_by_value():
    assert single(*map(str, range(11)))[0].labels == tuple(map(str, range(11)))


def test_several_classes_are_sorted():
    task, numbers, notes = single("nv", "akiec", "mel", "nv")
    assert task.kind == "multiclass"
    assert task.labels == ("akiec", "mel", "nv")
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [2, 0, 1, 2]
    assert notes == ()


def test_one_class_is_refused():
    with pytest.raises(InputError, match=r"all labels are 'sick'; expected at least two classes\. Add images"):
        single("sick", "sick")


def test_multilabel_may_be_one_label_but_not_none():
    task, numbers, _ = read_labels([("a",), ()], multilabel=True, order=None, positive="")
    assert (task.kind, task.thresholds) == ("multilabel", (0.5,))
    assert numbers.tolist() == [[1], [0]]
    with pytest.raises(InputError, match="no image has any label"):
        read_labels([(), ()], multilabel=True, order=None, positive="")
