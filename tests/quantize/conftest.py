"""A small model, data to quantize it on, and a gate that lets it pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm.models import LoadedModel
from edgefm.spec.recipe import QuantizeRecipe, Recipe
from edgefm.spec.task import make_task

DATA = "phantom:opacity?n=160&size=64"
TASK = make_task("binary", ("clear", "opacity"))


@pytest.fixture
def model() -> LoadedModel:
    """Binary, convolutions, 160 px, random weights."""
    pytest.importorskip("nncf")
    from tests.export.small import build_small

    return build_small("test_efficientnet", TASK)


@pytest.fixture
def lenient() -> Recipe:
    """A gate that says yes to anything."""
    return Recipe(quantize=QuantizeRecipe(calibration_images=8, max_drop=1.0, max_flips=1.0))


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """A folder of generated pictures without labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that the planted models decide well on, in a folder per class."""
    pytest.importorskip("nncf")
    from .planted import draw

    return draw(tmp_path_factory.mktemp("pictures"))
