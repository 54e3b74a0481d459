"""Short runs of the verb, for tests. Not tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from edgefm.adapt import adapt
from edgefm.settings import load_recipe

Make = Callable[..., Path]
Method = Literal["linear", "lora", "qlora", "full"]
METHODS: tuple[Method, ...] = ("linear", "lora", "full")
SHORT = ("adapt.epochs=2", "adapt.views=2", "adapt.batch=6", "adapt.lr=1e-3", "adapt.lora.rank=4")


def run(model: Any, data: Path, out: Path, method: Method = "linear", *sets: str, **options: Any) -> Path:
    """Two short epochs, or a probe; code is trusted."""
    recipe = load_recipe(None, [*SHORT, *sets])
    return adapt(model, data, out, method=method, recipe=recipe, trust_remote_code=True, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a timm folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
