"""The images of a `run`, answered in order as they come.

Not the answering itself (`runtime/session.py`) and not its printing (`views.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .runtime.session import Answer

AT_ONCE = 16


def answers(
    bundle: Path,
    images: Sequence[str],
    *,
    variant: str | None,
    threads: int | None,
    frame: int | None,
    allow_refused: bool,
) -> Iterator[Answer]:
    """One answer per image. Paths are looked for before the bundle is opened, so a wrong one costs nothing."""
    from .runtime.session import Session

    files = find_images(images)
    with Session(bundle, variant=variant, threads=threads, allow_refused=allow_refused) as session:
        for start in range(0, len(files), AT_ONCE):
            yield from session.predict(files[start : start + AT_ONCE], frame=frame)


def find_images(images: Sequence[str]) -> list[Path]:
    """The files themselves, and the images in folders at every depth, sorted.

    Raises:
        InputError: no image is named, or a folder has none.
    """
    from .data.folders import images_in

    found: list[Path] = []
    for path in map(Path, images):
        if not path.is_dir():
            found.append(path)
            continue
        inside, others = images_in(path)
        if not inside:
            raise InputError(f"{path} has no images", do="check the path")
        if others:
            logging.getLogger("edgefm").info(f"{len(others)} files in {path} are no images (the first is {others[0].name})")
        found += inside
    if not found:
        raise InputError("no image was named", do="name image files or folders after the bundle")
    return found
