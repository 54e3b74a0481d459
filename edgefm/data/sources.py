"""DATA in every form of DESIGN.md, as one `Dataset`. Not the forms themselves: each has a file of its own."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..spec.recipe import DataRecipe
from ..spec.task import make_task
from .clusters import clusters
from .dataset import Dataset
from .folders import read_folder
from .labels import read_labels
from .listing import Listing
from .medmnist import find_medmnist, read_npz
from .phantom import read_phantom
from .splits import MANY, check_patients, cut
from .table import read_table

FORMS = "a CSV, a folder of class folders, a folder of images, a MedMNIST .npz, medmnist:NAME or phantom:NAME"
_DEFAULTS = DataRecipe()


def load_data(source: str | Path, recipe: DataRecipe = _DEFAULTS, *, labels: tuple[str, ...] | None = None) -> Dataset:
    """Read any form of DATA. No image is decoded here; `check_images` does that.

    Args:
        source: a path, `medmnist:NAME` or `phantom:NAME`.
        recipe: column names, positive class, shares and seed of the cut.
        labels: a teacher's labels; their order is taken if they include all labels of the data.

    Raises:
        InputError: the source is not there or not understood, or its labels, patients or splits cannot be used.
    """
    return assemble(read_listing(source, recipe), recipe, labels=labels)


def read_listing(source: str | Path, recipe: DataRecipe) -> Listing:
    """What a source lists, before labels and splits are settled. Raises `InputError`."""
    text = str(source)
    if text.startswith("phantom:"):
        return read_phantom(text)
    if text.startswith("medmnist:"):
        return read_npz(find_medmnist(text.removeprefix("medmnist:")))
    path = Path(source)
    if path.is_dir():
        return read_folder(path, recipe)
    if not path.exists():
        raise InputError(f"there is no data at {path}", expected=FORMS, do="check the path")
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return read_table(path, recipe)
    raise InputError(f"{path} is no data set", expected=FORMS)


def assemble(listing: Listing, recipe: DataRecipe, *, labels: tuple[str, ...] | None = None) -> Dataset:
    """Settle labels and splits of a listing. Raises `InputError`."""
    task, numbers, notes = make_task("embedding"), None, listing.notes
    strata: list[Hashable] = [()] * len(listing.names)
    if listing.cells is not None:
        try:
            task, numbers, more = read_labels(
                listing.cells, multilabel=listing.multilabel, order=labels, positive=recipe.positive
            )
        except InputError as error:
            raise InputError(f"in {listing.name} {error.found}", expected=error.expected, do=error.do) from error
        notes += more
        strata = [tuple(sorted(cell or ())) for cell in listing.cells]
        if bare := listing.cells.count(None):
            notes += (f"{bare} of {len(listing.cells)} images have no label, all of them in train",)
    dataset = Dataset(
        name=listing.name,
        task=task,
        names=listing.names,
        rows=listing.rows,
        labels=numbers,
        patients=listing.patients,
        groups=listing.groups,
        splits=np.array(listing.splits or [""] * len(listing.names), dtype="<U9"),
        notes=notes,
        broken=recipe.broken,
        store=listing.store,
        keys=np.arange(len(listing.names)),
    )
    return _settle_splits(dataset, strata, recipe)


def _settle_splits(dataset: Dataset, strata: list[Hashable], recipe: DataRecipe) -> Dataset:
    given = set(np.unique(dataset.splits)) - {""}
    notes = list(dataset.notes)
    if dataset.patients is None:
        patients, called = _without_patients(dataset, bool(given), notes)
    else:
        patients = called = dataset.patients
        if given:
            check_patients(patients, dataset.splits, [_place(dataset, i) for i in range(len(dataset))])
    splits = dataset.splits.copy()
    many = len(set(patients)) >= MANY

    def deal(indexes: np.ndarray, shares: dict[str, float], what: str, part: str = "") -> None:
        splits[indexes] = cut(
            [patients[i] for i in indexes],
            [strata[i] for i in indexes],
            shares,
            seed=recipe.seed,
            many=many,
            what=what,
            part=part,
            called=[called[i] for i in indexes],
        )

    val, test = recipe.val, recipe.test
    if not given:
        if val + test >= 1:
            raise InputError(f"data.val {val} and data.test {test} leave nothing for train", expected="a sum below 1")
        deal(
            np.arange(len(splits)), {"train": 1 - val - test, "val": val / 2, "calibrate": val / 2, "test": test}, dataset.name
        )
        whom = "image" if dataset.patients is None else "patient"
        notes.append(f"{dataset.name} brings no splits; cut by {whom} with seed {recipe.seed}")
    elif "val" in given and "calibrate" not in given:
        deal(np.flatnonzero(splits == "val"), {"val": 0.5, "calibrate": 0.5}, f"the split val of {dataset.name}", "val")
    elif "train" in given and "val" not in given and val > 0:
        spare = {"val": val} if "calibrate" in given else {"val": val / 2, "calibrate": val / 2}
        deal(np.flatnonzero(splits == "train"), {"train": 1 - val, **spare}, f"the split train of {dataset.name}", "train")
        notes.append(f"{dataset.name} brings no val; cut from train with seed {recipe.seed}")
    return replace(dataset, splits=splits, notes=(*notes, *_absent(dataset, splits)))


def _without_patients(dataset: Dataset, given: bool, notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In place of a patient, one per image: the name of the image, or of the first of its copies in the alphabet; and what
    decides its split: that name without the class folder, for a label is corrected by moving a file to another."""
    owners = clusters(dataset)
    copies = [(key, int(first)) for key, first in enumerate(owners) if key != first]
    torn = [(key, first) for key, first in copies if given and dataset.splits[key] != dataset.splits[first]]
    if torn:
        a, b = torn[0]
        notes.append(
            f"{len(torn)} files are copies of a file in another split, such as {dataset.names[a]} of {dataset.names[b]}"
        )
    elif copies:
        notes.append(f"{len(copies)} files are copies of another; copies count as one patient and stay in one split")
    least = list(range(len(dataset)))
    for key, first in copies:
        least[first] = min(least[first], key, key=dataset.names.__getitem__)
    chosen = [least[int(first)] for first in owners]
    return tuple(dataset.names[i] for i in chosen), tuple(_below_class(dataset, i) for i in chosen)


def _below_class(dataset: Dataset, index: int) -> str:
    parts = dataset.names[index].split("/")
    if dataset.rows[index] is None:
        for label in dataset.label_names(index):
            if label in parts[:-1]:
                parts.remove(label)
    return "/".join(parts)


def _absent(dataset: Dataset, splits: np.ndarray) -> Iterator[str]:
    """A sentence for each split that lacks a class: no metric is defined there."""
    if dataset.labels is None:
        return
    for split in np.unique(splits):
        chosen = dataset.labels[(splits == split) & dataset.known]
        present = chosen.any(0) if chosen.ndim == 2 else np.isin(np.arange(len(dataset.task.labels)), chosen)
        missing = [f"'{label}'" for label, there in zip(dataset.task.labels, present) if not there]
        if missing:
            yield f"{split} has no image of {', '.join(missing)}"


def _place(dataset: Dataset, index: int) -> str:
    row = dataset.rows[index]
    return dataset.names[index] if row is None else f"row {row}"
