"""Gradient checkpointing: a block's activations are computed again for the backward instead of kept. No file on disk.

Chen et al. 2016. The libraries' own switches; dropout draws the same again, so the step stays the same.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import InputError
from ..models.encoder import ImageTower, TimmEncoder, TransformersEncoder
from ..models.probe import base_of


def checkpoint_blocks(module: nn.Module, name: str) -> None:
    """Switch it on in the model `name`.

    Raises:
        InputError: the model has no such switch.
    """
    encoder: Any = base_of(module)
    try:
        if isinstance(encoder, TimmEncoder):
            encoder.model.set_grad_checkpointing(True)
        elif isinstance(encoder, ImageTower):
            encoder.trunk.set_grad_checkpointing(True)
        elif isinstance(encoder, TransformersEncoder):
            # before 5.24 under another name; not the re-entrant kind, which wants a gradient for the frozen embeddings' output
            new = getattr(encoder.body, "activation_checkpointing_enable", None)
            if new is not None:
                new(activation_checkpointing_kwargs={"use_reentrant": False})
            else:
                encoder.body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            raise AttributeError
    except (AttributeError, AssertionError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"{name} has no gradient checkpointing", do="leave adapt.checkpointing out; adapt.accumulate saves memory, too"
        ) from error
