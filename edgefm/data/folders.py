"""A folder as a listing: class folders, class folders inside split folders, or images without labels.

Not recursive guessing: where images lie both in the folder and below it, it is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ..errors import InputError
from ..spec.recipe import DataRecipe
from .files import Files
from .listing import Listing
from .splits import SPLITS

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm"}


def read_folder(folder: Path, recipe: DataRecipe) -> Listing:
    """The images of a folder.

    `FOLDER/CLASS/.../image` is labelled by CLASS, `FOLDER/SPLIT/CLASS/.../image` where every subfolder is a split's name;
    `FOLDER/image` has no labels. Hidden files are passed over; other files that are no images are counted in the notes.

    Raises:
        InputError: no images, images both inside and beside subfolders, or one class folder only.
    """
    images, others = _walk(folder)
    parts = [image.relative_to(folder).parts for image in images]
    if not images:
        raise InputError(f"{folder} has no images", expected=" ".join(sorted(SUFFIXES)), do="check the path")
    flat = sum(len(part) == 1 for part in parts)
    if 0 < flat < len(parts):
        loose = next(part[0] for part in parts if len(part) == 1)
        raise InputError(
            f"{folder} has images beside class folders (such as {loose})",
            do="move them into a class folder, or list all in a CSV",
        )
    splits = None
    if not flat and all(part[0] in SPLITS for part in parts):
        if any(len(part) < 3 for part in parts):
            raise InputError(f"{folder} has split folders without class folders in them", do="list the images in a CSV")
        splits = tuple(part[0] for part in parts)
    depth = 0 if splits is None else 1
    if not flat and len({part[depth] for part in parts}) == 1:
        only = folder / parts[0][0] / (parts[0][1] if depth else "")
        raise InputError(
            f"{folder} has one class folder only, '{parts[0][depth]}'",
            expected="at least two",
            do=f"for images without labels name {only} itself" if not depth else "add the other class",
        )
    notes: tuple[str, ...] = ()
    if others:
        notes = (f"{len(others)} files in {folder.name} are no images and were left out (the first is {others[0].name})",)
    return Listing(
        name=folder.absolute().name,
        store=Files(tuple(images), recipe.frame),
        names=tuple("/".join(part) for part in parts),
        rows=(None,) * len(images),
        cells=None if flat else tuple((part[depth],) for part in parts),
        splits=splits,
        notes=notes,
    )


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    images: list[Path] = []
    others: list[Path] = []
    seen: Counter[str] = Counter()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        seen[os.path.realpath(root)] += 1
        if seen[os.path.realpath(root)] > 1:  # a link back up
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith("."):
                (images if path.suffix.lower() in SUFFIXES or _is_dicom(path) else others).append(path)
    return images, others


def _refuse(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be read ({error.strerror})", do="change its permissions") from error


def _is_dicom(path: Path) -> bool:
    """Scanners write DICOM files with no suffix, or with a number as one."""
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
