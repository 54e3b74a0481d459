"""What one form of DATA holds, before labels become numbers and splits are settled. Not yet a `Dataset`."""

from __future__ import annotations

from dataclasses import dataclass, field

from .dataset import Store


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Images as a source lists them; each tuple has one item per image.

    Attributes:
        cells: the labels of each image, None for an image whose labels are not known; or None without labels.
        multilabel: an image may have none or several.
        splits: split names, or None if the source gives none.
        The rest: see `Dataset`.
    """

    name: str
    store: Store
    names: tuple[str, ...]
    rows: tuple[int | None, ...]
    cells: tuple[tuple[str, ...] | None, ...] | None = None
    multilabel: bool = False
    patients: tuple[str, ...] | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
