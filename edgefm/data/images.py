"""Reading every image of a data set once, to find the broken ones before hours of work. Not preprocessing."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..errors import ImageError
from .dataset import Dataset, Problem


def check_images(dataset: Dataset, indexes: Iterable[int] | np.ndarray | None = None) -> Dataset:
    """Read images once and refuse (`dataset.broken` = "refuse") or leave out ("skip") those that cannot be read.

    Args:
        indexes: which; None for all.

    Returns:
        the data set without the broken images, which are kept in `skipped`, with a note where 16-bit images use 12 bits only.

    Raises:
        ImageError: names every broken image, its row and why; also with "skip" if no image is left.
    """
    chosen = list(range(len(dataset))) if indexes is None else [int(i) for i in indexes]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda index: _read(dataset, index), chosen))
    problems = {index: item for index, item in zip(chosen, found) if isinstance(item, Problem)}
    if problems and (dataset.broken == "refuse" or len(problems) == len(dataset)):
        raise ImageError(
            f"{len(problems)} of {len(chosen)} images of {dataset.name} cannot be read: {_listed([*problems.values()])}",
            do="mend or remove them, or leave them out with --set data.broken=skip",
        )
    highest = max((item for item in found if isinstance(item, int)), default=0)
    notes = dataset.notes
    if 0 < highest <= 4095:
        top = (1 << max(8, highest.bit_length())) - 1
        notes += (f"no 16-bit pixel exceeds {highest}; consider preprocess.window16=[0,{top}]",)
    kept = [index for index in range(len(dataset)) if index not in problems]
    if problems:
        dataset = dataset.take(kept)
    return replace(dataset, notes=notes, skipped=dataset.skipped + tuple(problems.values()))


def _listed(problems: list[Problem]) -> str:
    """The first 20 with their reasons, 200 more by name, the rest as a number."""
    named = [problem.name if problem.row is None else f"row {problem.row}" for problem in problems[20:220]]
    rest = f"; and {len(problems) - 220} more" if len(problems) > 220 else ""
    return (
        "; ".join(problem.reason.removesuffix(".") for problem in problems[:20])
        + ("; also " + ", ".join(named) if named else "")
        + rest
    )


def _read(dataset: Dataset, index: int) -> Problem | int | None:
    """A problem, the largest value of a 16-bit image, or None."""
    try:
        pixels = dataset.pixels(index)
    except ImageError as error:
        return Problem(dataset.names[index], dataset.rows[index], str(error))
    return int(pixels.max()) if pixels.dtype == np.uint16 else None
