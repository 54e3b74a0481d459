"""A model's outputs on images of a data set. Not the runtime: torch modules, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..models.loaded import Attended, Outputs
from ..spec.preprocess import Preprocess
from ..spec.recipe import AugmentRecipe
from .images import Images
from .precision import Precision, autocast
from .views import apply_views, draw_views, normalise

BATCH = 32


def answer(module: nn.Module, x: torch.Tensor, indexes: np.ndarray) -> Outputs:
    """What `module` answers, in its mode. One with an attribute `by_image` is first told which images these are: its adapters
    differ by image.

    Args:
        x: float32 `[N, C, S, S]`. indexes: int64 `[N]`, positions in the data set.
    """
    tell = getattr(module, "by_image", None)
    if tell is not None:
        tell(indexes, x.device)
    outputs: Outputs = module(x)
    return outputs


def predict(
    module: nn.Module,
    images: Images,
    indexes: np.ndarray,
    spec: Preprocess,
    *,
    device: torch.device,
    precision: Precision,
    view: tuple[int, int, AugmentRecipe] | None = None,
) -> Iterator[tuple[np.ndarray, Outputs]]:
    """The outputs of `module`, batch by batch, in order, without gradients.

    Args:
        module: in eval mode, on `device`. indexes: int64 `[N]`, positions in the data set.
        spec: the module's preprocessing.
        view: (seed, view, recipe) of a random view instead of the image itself.

    Yields:
        the positions, int64 `[B]`, and float32 outputs on the CPU.

    Raises:
        InputError: an output is not finite; names the image.
    """
    cut = [indexes[start : start + BATCH] for start in range(0, len(indexes), BATCH)]
    for chosen, windowed in zip(cut, images.batches(cut, spec)):
        with torch.no_grad(), autocast(device, precision):
            outputs = answer(module, model_input(windowed.to(device), chosen, spec, view), chosen)
        plain = Outputs(*(None if each is None else each.float().cpu() for each in outputs))  # type: ignore[arg-type]
        if isinstance(outputs, Attended):
            plain = Attended(plain, {name: each.float().cpu() for name, each in outputs.attention.items()})
        finite = torch.isfinite(plain.embedding if plain.logits is None else plain.logits).all(dim=1)
        if not finite.all():
            name = images.dataset.names[int(chosen[int(torch.nonzero(~finite)[0])])]
            raise InputError(f"the model answers {name} with numbers that are not finite", do="check the model's weights")
        yield chosen, plain


def all_outputs(batches: Iterator[tuple[np.ndarray, Outputs]]) -> Outputs:
    """The logits and embeddings of `predict` in one piece."""
    logits, embedding = [], []
    for _, outputs in batches:
        embedding.append(outputs.embedding)
        if outputs.logits is not None:
            logits.append(outputs.logits)
    return Outputs(logits=torch.cat(logits) if logits else None, embedding=torch.cat(embedding))


def model_input(
    windowed: torch.Tensor, indexes: np.ndarray, spec: Preprocess, view: tuple[int, int, AugmentRecipe] | None
) -> torch.Tensor:
    """From windowed images, float32 `[N, C, S, S]`, to what the model sees: a view of them, normalised, channels last."""
    if view is not None:
        seed, number, recipe = view
        windowed = apply_views(windowed, draw_views(seed, indexes, number, recipe))
    return normalise(windowed, spec).contiguous(memory_format=torch.channels_last)
