"""RETFound's own checkpoints: masked autoencoders (He et al. 2022) and what was fine-tuned from them, as `.pth` files.

Not timm folders: these files come alone, without a configuration, and their keys say what they are.

RETFound (Zhou et al. 2023, Nature 622) is a ViT-L/16. Its code (`models_vit.py`, `global_pool=True`) takes the mean of the
patch tokens of the last block, before any norm, and normalises that with `fc_norm`. A pretraining checkpoint has no
`fc_norm` and its code starts one afresh, which is a LayerNorm without gain or shift; so do we.
"""

from __future__ import annotations

from math import floor
from pathlib import Path

import torch

from ..errors import InputError
from ..spec.preprocess import Preprocess
from .contract import IMAGENET_MEAN, IMAGENET_STD, licence_of
from .encoder import TimmEncoder
from .loaded import LoadedModel, task_of
from .timm_build import build_timm
from .vit_keys import vit_arguments, vit_structure
from .weights import State, fill, read_weights, weights_sha256

ARCHITECTURE = "vit_large_patch16_224"
HEAD_CHANNELS = 64


def encoder_weights(state: State) -> State:
    """A mean-pooled encoder's weights out of a masked autoencoder's; any other state as it is."""
    if "decoder_embed.weight" not in state:
        return state
    dropped = ("decoder_", "mask_token", "norm.")
    encoder = {key: value for key, value in state.items() if not key.startswith(dropped)}
    width = state["cls_token"].shape[-1]
    return {"fc_norm.weight": torch.ones(width), "fc_norm.bias": torch.zeros(width)} | encoder


def load_mae(files: list[Path], *, licence: str | None = None, name: str | None = None) -> LoadedModel:
    """Load a RETFound checkpoint, pretrained or fine-tuned.

    Raises:
        InputError: the keys are of another model.
    """
    where = name or str(files[0])
    state = encoder_weights(read_weights(files))
    structure = vit_structure(state)
    if structure is None or not structure.mean_pooled:
        raise InputError(
            f"{where} comes without a configuration, and its keys are not RETFound's",
            do="give a folder that holds the weights and their config.json",
        )
    arguments = vit_arguments(structure, {}, heads=structure.width // HEAD_CHANNELS, where=where)
    model = build_timm(ARCHITECTURE, arguments, {}, where)
    fill(model, state, where)
    size = structure.grid * structure.patch
    module = TimmEncoder(model, architecture=ARCHITECTURE, arguments=arguments).eval()
    return LoadedModel(
        module=module,
        preprocess=Preprocess(
            channels=3,
            size=size,
            resize_to=floor(size * 256 / 224) if size <= 224 else size,
            filter="bicubic",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        task=task_of(structure.head),
        name=name or files[0].name,
        licence=licence or licence_of(None, files[0].parent),
        sha256=weights_sha256(files, module),
    )
