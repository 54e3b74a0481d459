"""Answer for files and folders, one answer per image file, in order, as they come.

Not the printing and not the exit code: those are the front door's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from .answer import Answer
from .session import Session

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm"}


def run(session: Session, paths: Sequence[str | Path], *, frame: int | None = None) -> Iterator[Answer]:
    """One answer per image of `find_images(paths)`; an image that cannot be read has `error` set.

    Args:
        frame: which frame of files that hold several, from 0.

    Raises:
        InputError: at once, if there is nothing to answer for.
    """
    return session.stream(find_images(paths), frame=frame)


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files that these paths stand for, in the order of the paths.

    A path that is not a folder stands for itself, whatever its name. A folder stands for all images below it: files with a
    suffix of `SUFFIXES`, and DICOM files without a suffix or with a number as one, as scanners write them. Names sort by
    their characters, a folder's own files before its subfolders; hidden files and folders are passed over, links followed.

    Raises:
        InputError: no path, only paths that do not exist, or a folder without images.
    """
    if not paths:
        raise InputError("no image was named", do="name image files or folders after the bundle")
    if not any(map(os.path.lexists, paths)):
        others = f" nor do the {len(paths) - 1} other paths" if len(paths) > 1 else ""
        raise InputError(f"{paths[0]} does not exist{others}", do="check the path")
    found: list[Path] = []
    for path in map(Path, paths):
        inside = images_in(path) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"the folder {path} has no images", expected=" ".join(sorted(SUFFIXES)), do="check the path")
        found += inside
    return found


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and all below it, as `find_images` says. Raises `InputError` for a folder that cannot be read."""
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(root)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(files) if not name.startswith(".") and _is_image(Path(root, name))]
    return found


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or ((not suffix or suffix[1:].isdigit()) and _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _unreadable(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be read ({error.strerror})", do="check its permissions") from error
