"""Small data sets on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save(path: Path, value: int = 0) -> Path:
    """A tiny grey PNG of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value % 256, np.uint8)).save(path)
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Write `data/labels.csv` from text or bytes, with an image (each different) for every name that ends in .png."""

    def write(text: str | bytes, *, images: bool = True) -> Path:
        path = tmp_path / "data" / "labels.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if images:
            words = path.read_bytes().decode("utf-8", "replace").replace('"', ",").replace("\n", ",").replace("\r", ",")
            names = [word.strip() for word in words.replace(";", ",").replace("\t", ",").split(",")]
            for value, name in enumerate(dict.fromkeys(name for name in names if name.endswith(".png"))):
                save(path.parent / name.replace("\\", "/"), value)
        return path

    return write
