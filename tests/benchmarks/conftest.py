"""What the GPU benchmarks' tests share: the scripts as modules, and a run as if there were a card."""

from __future__ import annotations

import argparse
import importlib

import pytest


@pytest.fixture
def script(root, monkeypatch):
    """A script of the folder, or of scripts/, by its name, as a module."""
    for folder in ("benchmarks", "scripts"):
        monkeypatch.syspath_prepend(str(root / folder))
    return importlib.import_module


@pytest.fixture
def run(script, tmp_path):
    """A run as if there were a card that copies 1,000 bytes a second and does 1e6 operations."""
    measure = script("gpu_measure")
    asked = argparse.Namespace(device="cpu", quick=True, minutes=1.0, out=tmp_path / "found.json")
    made = measure.Run(asked, measure.Clock("cpu"))
    made.card, made.rate = True, measure.Rates(1e3, 1e6)
    return made
