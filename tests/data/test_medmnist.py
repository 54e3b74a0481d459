"""MedMNIST archives of every kind, made small here, and the real PneumoniaMNIST."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgefm.data import check_images, load_data
from edgefm.data.medmnist import CLASSES
from edgefm.errors import ImageError, InputError

COUNTS = {"train": 12, "val": 6, "test": 4}


def write(path: Path, shape: tuple[int, ...], labels: np.ndarray | None, *, save=np.savez_compressed, **changes) -> Path:
    """An archive of random images; `labels` has one row per image over all splits."""
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (count, *shape), dtype=np.uint8) for split, count in COUNTS.items()}
    if labels is not None:
        parts = np.split(labels, np.cumsum(list(COUNTS.values()))[:-1])
        arrays |= {f"{split}_labels": part for split, part in zip(COUNTS, parts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, **(arrays | changes))
    return path


def column(classes: int) -> np.ndarray:
    return (np.arange(22) % classes).astype(np.uint8)[:, None]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_every_size_grey_and_colour(tmp_path, size, channels, save):
    path = write(tmp_path / "x.npz", (size, size, *channels), column(2), save=save)
    data = load_data(path)
    assert data.name == "x"
    assert len(data) == 22
    assert len(data.of("train")) == 12
    assert len(data.of("val")) + len(data.of("calibrate")) == 6
    assert {len(data.of("val")), len(data.of("calibrate"))} <= {2, 3, 4}  # of each class 1 or 2 of its 3
    with np.load(path) as arrays:
        np.testing.assert_array_equal(data.pixels(11), arrays["train_images"][11])
        np.testing.assert_array_equal(data.pixels(12), arrays["val_images"][0])
        np.testing.assert_array_equal(data.pixels(21), arrays["test_images"][3])
    assert data.names[12] == "val/00000"
    data.pixels(0)[:] = 0  # a copy: the next reader sees what is stored
    assert data.pixels(0).any()


def test_binary_multiclass_and_multilabel_take_their_names_from_the_set(tmp_path):
    binary = load_data(write(tmp_path / "pneumoniamnist_64.npz", (28, 28), column(2)))
    assert (binary.task.kind, binary.task.labels) == ("binary", ("normal", "pneumonia"))
    breast = load_data(write(tmp_path / "breastmnist.npz", (28, 28), column(2)))
    assert breast.task.labels == ("normal, benign", "malignant")
    many = load_data(write(tmp_path / "bloodmnist.npz", (28, 28, 3), column(8)))
    assert many.task.kind == "multiclass"
    assert set(many.task.labels) == set(CLASSES["bloodmnist"])
    assert many.label_names(3) == ("immature granulocytes",)
    hot = np.random.default_rng(1).integers(0, 2, (22, 14))
    several = load_data(write(tmp_path / "chestmnist_224.npz", (28, 28), hot))
    assert several.task.kind == "multilabel"
    assert set(several.label_names(5)) == {CLASSES["chestmnist"][k] for k in np.flatnonzero(hot[5])}


def test_an_unknown_set_has_numbers_as_names(tmp_path):
    data = load_data(write(tmp_path / "mine.npz", (28, 28), column(11)))
    assert data.task.labels == tuple(map(str, range(11)))
    flat = load_data(write(tmp_path / "flat.npz", (28, 28), column(3)[:, 0]))
    assert flat.task.labels == ("0", "1", "2")


def test_labels_may_be_missing(tmp_path):
    data = load_data(write(tmp_path / "x.npz", (28, 28), None))
    assert data.task.kind == "embedding"


def test_single_channel_and_16_bit_arrays(tmp_path):
    assert load_data(write(tmp_path / "x.npz", (28, 28, 1), column(2))).pixels(0).shape == (28, 28)
    deep = {"train_images": np.full((12, 28, 28), 4000, np.uint16)}
    assert load_data(write(tmp_path / "y.npz", (28, 28), column(2), **deep)).pixels(0).dtype == np.uint16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, "holds volumes"),
        ({"train_images": np.zeros((12, 28, 28), np.float32)}, "holds train_images.npy of float32"),
        ({"train_images": np.zeros((0, 28, 28), np.uint8)}, r"uint8 \[0, 28, 28\]"),
        ({"train_labels": np.zeros((3, 1), np.uint8)}, r"12, 6, 4\] images and \[3, 6, 4\] labels"),
        ({"train_labels": np.zeros((12, 1), np.float64)}, "train_labels of float64"),
        ({"train_labels": np.zeros((12, 5), np.uint8)}, "labels of different widths"),
        ({"train_labels": np.array([["x"]] * 12, object)}, "cannot be read .*Object arrays cannot be loaded"),
        ({"train_images": np.array([None] * 12, object)}, "of object"),
    ],
)
def test_arrays_of_another_kind_are_refused_and_nothing_is_unpickled(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_data(write(tmp_path / "x.npz", (28, 28), column(2), **change))


def test_other_archives_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(InputError, match=r"holds weights; expected train_images"):
        load_data(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="cannot be read"):
        load_data(tmp_path / "text.npz")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"train_images": 1}))
    with pytest.raises(InputError, match="cannot be read"):
        load_data(tmp_path / "pickle.npz")


def test_a_damaged_archive_is_named_when_its_images_are_read(tmp_path):
    path = write(tmp_path / "x.npz", (64, 64), column(2), save=np.savez)
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("test_images.npy").header_offset + 9000
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 255
    path.write_bytes(damaged)
    data = load_data(path)
    assert data.pixels(0).shape == (64, 64)
    with pytest.raises(ImageError, match=r"x\.npz is damaged \(Bad CRC-32"):
        data.pixels(21)


def test_a_full_disk_says_where_to_point(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    data = load_data(write(tmp_path / "x.npz", (28, 28), column(2)))
    monkeypatch.setattr("edgefm.data.archive.shutil.copyfileobj", full)
    with pytest.raises(ImageError, match=r"No space left on device.*Free some space, or point TMPDIR"):
        data.pixels(0)


def test_another_process_unpacks_for_itself(tmp_path):
    data = load_data(write(tmp_path / "x.npz", (28, 28), column(2)))
    data.pixels(0)
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.pixels(21), data.pixels(21))
    assert again.sha256() == data.sha256()


def test_a_name_is_looked_for_where_the_package_puts_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"no breastmnist\.npz in .*root, .*\.medmnist, .*Download breastmnist\.npz from https"
    ):
        load_data("medmnist:breastmnist")
    write(tmp_path / "breastmnist_64.npz", (64, 64), column(2))
    assert load_data("medmnist:breastmnist").name == "breastmnist_64"
    write(tmp_path / "home" / ".medmnist" / "breastmnist_224.npz", (224, 224), column(2))
    assert load_data("medmnist:breastmnist").name == "breastmnist_224"
    assert load_data("medmnist:breastmnist_64").name == "breastmnist_64"
    write(tmp_path / "root" / "breastmnist.npz", (28, 28), column(2))
    assert load_data("medmnist:breastmnist").pixels(0).shape == (28, 28)
    with pytest.raises(InputError, match=r"no two-dimensional MedMNIST set 'pneumonia'; expected pneumoniamnist"):
        load_data("medmnist:pneumonia")


@pytest.mark.slow
def test_the_real_pneumoniamnist(real_data):
    data = load_data(real_data / "pneumoniamnist" / "pneumoniamnist.npz")
    assert data.task.labels == ("normal", "pneumonia")
    assert (len(data.of("train")), len(data.of("test"))) == (4708, 624)
    assert len(data.of("val")) + len(data.of("calibrate")) == 524
    assert np.bincount(data.labels[data.of("test")]).tolist() == [234, 390]
    assert check_images(data).notes == data.notes
    assert data.pixels(0).shape == (28, 28)
