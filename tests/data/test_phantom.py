"""Generated radiographs: the same everywhere, of every size, with classes that overlap."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest

from edgefm.data import check_images, load_data
from edgefm.data.phantom import phantom
from edgefm.data.radiograph import SCANNERS, radiograph
from edgefm.errors import InputError


def test_the_defaults_make_a_whole_data_set():
    data = load_data("phantom:opacity")
    assert data.name == "phantom:opacity?n=800&seed=0&size=128"
    assert data.task.labels == ("clear", "opacity")
    assert len(data) == 800
    assert set(data.groups["scanner"]) == set(SCANNERS)
    assert 0.45 < data.labels.mean() < 0.55
    assert 450 < len(set(data.patients)) < 600
    assert set(data.splits) == {"train", "val", "calibrate", "test"}
    for split in ("train", "val", "calibrate", "test"):
        labels = data.labels[data.of(split)]
        assert labels.mean() == pytest.approx(data.labels.mean(), abs=4 * 0.5 / len(labels) ** 0.5)  # of chance


def test_options_are_read_and_name_the_set():
    data = load_data("phantom:opacity?n=30&seed=7&size=40")
    assert data.name == "phantom:opacity?n=30&seed=7&size=40"
    assert len(data) == 30
    assert data.pixels(0).shape == (40, 40)
    assert data.sha256() == phantom("opacity", 30, 7, 40).sha256()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantom:fracture", "no phantom 'fracture'; expected phantom:opacity"),
        ("phantom:", "no phantom ''"),
        ("phantom:opacity?m=3", "has the option m=3; expected whole numbers for n, seed and size"),
        ("phantom:opacity?n=many", "has the option n=many"),
        ("phantom:opacity?n=-3", "has the option n=-3"),
        ("phantom:opacity?n=", "has the option n="),
        ("phantom:opacity?n=0", "with n=0; expected 1 to 1000000"),
        ("phantom:opacity?size=8", "with size=8; expected 16 to 4096"),
        ("phantom:opacity?n=2", "too few"),
    ],
)
def test_wrong_options_are_refused(text, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        load_data(text)


def test_a_picture_depends_on_its_arguments_only():
    data = load_data("phantom:opacity?n=20&size=64")
    first = [data.pixels(i) for i in range(20)]
    for i in reversed(range(20)):
        np.testing.assert_array_equal(data.pixels(i), first[i])
    assert not np.array_equal(first[0], first[1])
    larger = load_data("phantom:opacity?n=40&size=64")
    np.testing.assert_array_equal(larger.pixels(5), first[5])
    assert not np.array_equal(load_data("phantom:opacity?n=20&size=64&seed=1").pixels(0), first[0])


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib; from edgefm.data import load_data; d = load_data('phantom:opacity?n=12&size=64');"
        "print(hashlib.sha256(b''.join(d.pixels(i).tobytes() for i in range(12))).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    data = load_data("phantom:opacity?n=12&size=64")
    assert out == hashlib.sha256(b"".join(data.pixels(i).tobytes() for i in range(12))).hexdigest()


def test_scanners_differ_in_bits_and_range_and_all_images_can_be_read():
    data = check_images(load_data("phantom:opacity?n=60&size=64"))
    seen = {}
    for i, scanner in enumerate(data.groups["scanner"]):
        seen.setdefault(scanner, data.pixels(i))
    assert seen["axis"].dtype == np.uint8
    assert seen["birch"].dtype == np.uint16
    assert seen["birch"].max() > 20000
    assert not any("16-bit" in note for note in data.notes)


def test_a_patient_keeps_its_scanner():
    data = load_data("phantom:opacity?n=300&size=16")
    scanners = {}
    for patient, scanner in zip(data.patients, data.groups["scanner"]):
        assert scanners.setdefault(patient, scanner) == scanner


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 3000), (223, 225), (100, 150)])
@pytest.mark.parametrize("scanner", SCANNERS)
def test_any_shape_can_be_drawn(shape, scanner):
    pixels = radiograph(0, 1, *shape, contrast=0.3, scanner=scanner)
    assert pixels.shape == shape
    assert pixels.dtype == (np.uint16 if scanner == "birch" else np.uint8)


def test_a_spot_is_brighter_by_its_contrast():
    plain = radiograph(3, 4, 128, 128, scanner="birch").astype(int)
    spot = radiograph(3, 4, 128, 128, scanner="birch", contrast=0.2).astype(int)
    difference = (spot - plain) / 65535
    assert difference.min() > -0.02
    assert 0.1 < difference.max() < 0.3
    assert (difference > 0.05).mean() < 0.15


def test_labels_overlap_so_that_nobody_can_be_perfect():
    data = load_data("phantom:opacity?n=4000&size=16")
    contrasts = np.array([case.contrast for case in data.store.cases])
    ranks = np.argsort(np.argsort(contrasts))
    positive = data.labels == 1
    auc = (ranks[positive].sum() - positive.sum() * (positive.sum() - 1) / 2) / (positive.sum() * (~positive).sum())
    assert 0.965 < auc < 0.985


def test_drawing_is_fast():
    radiograph(0, 0, 128, 128)
    times = []
    for i in range(30):
        start = time.perf_counter()
        radiograph(0, i, 128, 128, contrast=0.2)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.003
