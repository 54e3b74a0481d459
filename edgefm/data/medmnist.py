"""A MedMNIST `.npz` as a listing: images of 28 to 224 pixels in arrays, with official splits and the classes' names.

Not a download: `medmnist:NAME` finds a file that is there, and says how to get one that is not.
Source of the format and the names: Yang et al. 2023, MedMNIST v2, Scientific Data 10:41.
"""

from __future__ import annotations

import os
import re
import zipfile
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ..errors import InputError
from .archive import Archive, Member
from .listing import Listing

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
CLASSES = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil", "platelet",
    ),
    "tissuemnist": (
        "collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments", "thick ascending limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip


def find_medmnist(name: str) -> Path:
    """The file of `medmnist:NAME`: `NAME.npz` (28 pixels), else the largest of `NAME_224`, `_128`, `_64`.

    Looked for in `$MEDMNIST_ROOT`, `~/.medmnist` (where the medmnist package puts its files) and the current folder.

    Raises:
        InputError: no such set, or no file; says where to get it.
    """
    base = _base(name)
    if base not in CLASSES:
        near = get_close_matches(base, CLASSES, 3) or CLASSES
        raise InputError(f"there is no two-dimensional MedMNIST set '{base}'", expected=" or ".join(near))
    root = os.environ.get("MEDMNIST_ROOT")
    folders = [*([Path(root)] if root else []), Path.home() / ".medmnist", Path()]
    for file in [name, *(f"{base}_{size}" for size in (224, 128, 64) if name == base)]:
        for folder in folders:
            if (path := folder / f"{file}.npz").is_file():
                return path
    raise InputError(
        f"there is no {name}.npz in " + ", ".join(str(folder.absolute()) for folder in folders),
        do=f"download {name}.npz from https://zenodo.org/records/10519652 into ~/.medmnist",
    )


def read_npz(path: Path) -> Listing:
    """The images that a MedMNIST archive lists; they are unpacked when the first pixel is asked for.

    Arrays `train_images` (uint8 `[N, H, W]` or `[N, H, W, 3]`), `train_labels` (`[N]`, `[N, 1]`, or `[N, K]` of 0 and 1 for
    multilabel), the same for `val` and `test`; labels may be missing altogether. Nothing pickled is ever loaded.

    Raises:
        InputError: no such archive, or arrays of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            splits = [split for split in ("train", "val", "test") if f"{split}_images.npy" in present]
            members = [_member(archive, split) for split in splits]
            labels = [_labels(archive, split) for split in splits if f"{split}_labels.npy" in present]
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error})", expected="a MedMNIST .npz", do="download it again") from error
    if not members:
        held = ", ".join(sorted(name.removesuffix(".npy") for name in present)[:8]) or "nothing"
        raise InputError(f"{path} holds {held}", expected="train_images, val_images or test_images")
    counts = [member.shape[0] for member in members]
    if labels and [len(label) for label in labels] != counts:
        raise InputError(f"{path} has {counts} images and {[len(label) for label in labels]} labels", expected="one per image")
    if len({label.shape[1] for label in labels}) > 1:
        raise InputError(f"{path} has labels of different widths", expected="the same columns in each split")
    numbers = np.concatenate(labels) if labels else None
    multilabel = numbers is not None and numbers.shape[1] > 1
    return Listing(
        name=path.stem,
        store=Archive(path, tuple(members)),
        names=tuple(f"{split}/{i:05d}" for split, count in zip(splits, counts) for i in range(count)),
        rows=(None,) * sum(counts),
        cells=None if numbers is None else _cells(numbers, CLASSES.get(_base(path.stem), ()), path),
        multilabel=multilabel,
        splits=tuple(split for split, count in zip(splits, counts) for _ in range(count)),
    )


def _base(name: str) -> str:
    return re.sub(r"_(28|64|128|224)$", "", name)


def _member(archive: zipfile.ZipFile, split: str) -> Member:
    name = f"{split}_images.npy"
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        offset = file.tell()
    if len(shape) == 4 and shape[3] not in (1, 3):
        raise InputError(f"{archive.filename} holds volumes {list(shape)}", expected="images [N, H, W] or [N, H, W, 3]")
    if len(shape) not in (3, 4) or dtype not in (np.uint8, np.uint16) or fortran or not all(shape):
        raise InputError(
            f"{archive.filename} holds {name} of {dtype} {list(shape)}", expected="uint8 [N, H, W] or [N, H, W, 3]"
        )
    return Member(name, shape, dtype.str, offset)


def _labels(archive: zipfile.ZipFile, split: str) -> np.ndarray:
    """int64 `[N, K]`."""
    with archive.open(f"{split}_labels.npy") as file:
        labels = np.lib.format.read_array(file, allow_pickle=False)
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "uib":
        raise InputError(
            f"{archive.filename} holds {split}_labels of {labels.dtype} {list(labels.shape)}", expected="integers [N, K]"
        )
    return labels.reshape(len(labels), -1).astype(np.int64)


def _cells(numbers: np.ndarray, classes: tuple[str, ...], path: Path) -> tuple[tuple[str, ...], ...]:
    width = numbers.shape[1]
    if width > 1:
        if not np.isin(numbers, (0, 1)).all():
            raise InputError(f"{path} has {width} label columns with values other than 0 and 1")
        words = classes if len(classes) == width else tuple(str(k) for k in range(width))
        return tuple(tuple(words[k] for k in np.flatnonzero(row)) for row in numbers)
    fits = numbers.min() >= 0 and numbers.max() < len(classes)
    return tuple((classes[number] if fits else str(number),) for number in numbers[:, 0].tolist())
