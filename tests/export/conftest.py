"""Small timm models as the loaders give them: random weights from a seed, no network."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgefm.models import LoadedModel

Build = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(timm_name, task, seed=0, **preprocess)`: a fresh model in eval mode, three channels, its own size."""
    pytest.importorskip("timm")
    from .small import build_small

    return build_small
