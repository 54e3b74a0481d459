"""Copies of an image are one observation only where nobody says whose they are."""

from __future__ import annotations

import numpy as np

from edgefm.data import clusters, load_data

from .conftest import save

ROWS = ["a.png,p1", "b.png,p2", "copy.png,p2", "c.png,p3", "d.png,p4"]


def made(csv, header, rows):
    path = csv(header + "\n" + "\n".join(rows) + "\n")
    save(path.parent / "copy.png", 0)  # as a.png
    return load_data(path)


def test_images_of_a_patient_belong_together_whatever_they_show(csv):
    data = made(csv, "file,patient", ROWS)
    assert clusters(data).tolist() == ["p1", "p2", "p2", "p3", "p4"]
    assert clusters(data.take([4, 2, 1])).tolist() == ["p4", "p2", "p2"]


def test_without_patients_copies_belong_together_also_where_the_first_of_them_is_left_out(csv):
    data = made(csv, "file", [row.partition(",")[0] for row in [*ROWS, "last.png,"]])
    save(data.store.paths[5], 0)
    assert clusters(data).tolist() == [0, 1, 0, 3, 4, 0]
    left = clusters(data.take([5, 3, 2]))
    assert left[0] == left[2] != left[1]
    assert len(np.unique(clusters(data.take([1, 3])))) == 2
