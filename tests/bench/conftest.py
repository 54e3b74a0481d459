"""Contenders of the tests, and the tiny bundles of the runtime's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.bench.contender import Contender

from ..runtime.conftest import MakeBundle, _no_variant_from_outside, make_bundle  # noqa: F401


def fake(function: str, name: str = "fake", *, keeps: bool = False, **settings: object) -> Contender:
    """A contender out of `fakes.py`."""
    return Contender(name=name, load=f"tests.bench.fakes:{function}", settings=settings, keeps=keeps)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that is there; fakes do not read it."""
    file = tmp_path / "image.png"
    file.touch()
    return file
