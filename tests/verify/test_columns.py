"""Columns become subgroups only where they name no patient."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.columns import EMPTY, RARE, columns

WHO = np.repeat(np.arange(30), 2)  # 30 patients of two images


def by_patient(*values: str) -> list[str]:
    return [value for value in values for _ in range(2)]


SITE = by_patient(*["north"] * 12, *["south"] * 12, *["JANE DOE"] * 2, *[""] * 4)


def test_values_of_few_patients_are_together_and_not_told_and_empty_cells_are_a_group() -> None:
    ((name, values, member),), notes = columns({"site": SITE}, (), WHO)
    assert (name, values, notes) == ("site", ("north", "south", RARE), [])  # 4 patients are not stated: they are rare, too
    assert np.bincount(member).tolist() == [24, 24, 12]
    ((_, values, _),), _ = columns({"site": by_patient(*["north"] * 12, *[""] * 18)}, (), WHO)
    assert values == ("north", EMPTY)


def test_numbers_come_in_their_order_and_words_in_theirs() -> None:
    ((_, values, _),), _ = columns({"age": by_patient(*["80"] * 10, *["9"] * 10, *["nan"] * 10)}, (), WHO)
    assert values == ("9", "80", "nan")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (by_patient(*[f"JANE {n}" for n in range(30)]), "30 values for 30 patients, which could name them"),
        ([f"{n}.png" for n in range(60)], "60 values for 30 patients"),
        (by_patient(*[f"JANE {n // 2}" for n in range(28)], "x", "x"), "each of its values is that of fewer than 5 patients"),
        (["JANE"] * 60, "all images have the same value"),
    ],
)
def test_a_column_that_names_patients_or_says_nothing_is_left_out_or_refused_without_its_values(
    values: list[str], why: str
) -> None:
    found, notes = columns({"remark": values}, (), WHO)
    assert found == []
    assert notes[0].startswith(f"column 'remark' makes no subgroups: {why}")
    assert "JANE" not in notes[0]
    with pytest.raises(InputError, match=why) as refused:
        columns({"remark": values}, ("remark",), WHO)
    assert "JANE" not in str(refused.value)


def test_a_value_for_every_other_patient_is_allowed_and_one_more_is_not() -> None:
    for count, fits in ((15, True), (16, False)):
        values = by_patient(*["common"] * (31 - count), *[f"v{n}" for n in range(count - 1)])
        found, notes = columns({"remark": values}, (), WHO)
        assert bool(found) is fits
        assert bool(notes) is not fits
    with pytest.raises(InputError, match="at most half as many as patients"):
        columns({"remark": values}, ("remark",), WHO)


def test_many_values_are_refused() -> None:
    who = np.arange(300)
    with pytest.raises(InputError, match="30 values, more than 20"):
        columns({"age": [str(n % 30) for n in who]}, ("age",), who)


def test_a_column_that_is_not_there_is_answered_with_what_is_near() -> None:
    with pytest.raises(InputError, match=r"no group column 'sites'; expected site\."):
        columns({"site": SITE, "colour": SITE}, ("sites",), WHO)
    with pytest.raises(InputError, match="expected a CSV with columns beside"):
        columns({}, ("site",), WHO)


def test_of_many_columns_none_is_chosen_unless_it_is_asked_for() -> None:
    many = {f"c{n}": SITE for n in range(6)}
    found, notes = columns(many, (), WHO)
    assert found == []
    assert notes == ["6 columns could make subgroups (c0, c1, c2, c3, c4, c5); --by says which"]
    assert [each.name for each in columns(many, ("c4", "c1", "c4"), WHO)[0]] == ["c4", "c1"]
    assert len(columns(dict(list(many.items())[:5]), (), WHO)[0]) == 5


def test_where_no_patients_are_named_a_column_may_be_their_names_and_is_not_told_unasked() -> None:
    groups, who = {"mrn": [f"MRN{n // 6}" for n in range(60)]}, np.arange(60)
    found, (note,) = columns(groups, (), who, named=False)
    assert found == []
    assert "MRN" not in note
    assert "--by" in note
    assert [column.name for column in columns(groups, ("mrn",), who, named=False)[0]] == ["mrn"]
    assert columns({}, (), who, named=False) == ([], [])
