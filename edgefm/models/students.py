"""Students: three presets and any timm model, built from a seed.

Not their training. Importable without torch, so that `--help` can show the presets.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import msgspec

from ..errors import InputError
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from .extra import compress_extra
from .loaded import LoadedModel


class Preset(NamedTuple):
    """A student by a short name. `weights` in millions and `macs` in thousand millions, at 3 x 224 x 224 with two classes."""

    timm_name: str
    weights: float
    macs: float
    sentence: str


PRESETS: dict[str, Preset] = {
    "mobile": Preset("mobilenetv4_conv_small", 2.50, 0.18, "convolutions only: the fastest, and it quantizes well"),
    "tiny": Preset("vit_tiny_patch16_224", 5.52, 1.25, "the smallest vision transformer: learns tokens from a ViT teacher"),
    "small": Preset("vit_small_patch16_224", 21.67, 4.60, "four times tiny: for hard tasks and PCs of the last ten years"),
}


def build_student(name: str, *, task: Task, preprocess: Preprocess, seed: int, pretrained: bool = False) -> LoadedModel:
    """A student that is not trained yet.

    Args:
        name: a preset or a timm name.
        task: decides the number of logits (none for an embedding).
        preprocess: the teacher's. The student keeps its own size and takes all else from the teacher, so that one prepared
            tensor serves both where the sizes agree.
        seed: of the initial weights; the same seed gives the same bytes.
        pretrained: start from timm's weights (with a new classifier), which need the hub or its cache.

    Returns:
        The model in eval mode. `licence` is that of the weights it starts from, "unknown" where it starts from the seed.

    Raises:
        InputError: an unknown name, or pretrained weights that cannot be had.
        MissingExtra: a library of `[compress]` is not installed.
    """
    with compress_extra():
        import timm
        import torch

        from .encoder import TimmEncoder
        from .timm_names import check_timm_name, pretrained_timm
        from .weights import state_sha256

    timm_name = PRESETS[name].timm_name if name in PRESETS else name
    near = difflib.get_close_matches(name, PRESETS, n=1)
    if near and name not in PRESETS and not timm.is_model(timm_name.partition(".")[0]):
        raise InputError(f"there is no student {name!r}", expected=f"{near[0]}, or a name that timm.list_models() lists")
    check_timm_name(timm_name)
    arguments: dict[str, Any] = {"num_classes": len(task.labels), "in_chans": preprocess.channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained:
            model, _ = pretrained_timm(timm_name, in_chans=preprocess.channels)
            model.reset_classifier(len(task.labels))
        else:
            model = timm.create_model(timm_name, pretrained=False, **arguments)
        classifier = model.get_classifier()
        if isinstance(classifier, torch.nn.Linear):
            # timm draws a MobileNet's from +-0.7 for two classes: logits of +-8 before the first step, epochs to unlearn.
            torch.nn.init.trunc_normal_(classifier.weight, std=0.01)
            torch.nn.init.zeros_(classifier.bias)
    size = model.pretrained_cfg["input_size"][-1]
    if size != preprocess.size:
        share = preprocess.resize_to / preprocess.size
        preprocess = msgspec.structs.replace(preprocess, size=size, resize_to=max(size, round(size * share)))
    return LoadedModel(
        module=TimmEncoder(model, architecture=timm_name.partition(".")[0], arguments=arguments).eval(),
        preprocess=preprocess,
        task=task,
        name=name,
        licence=str(model.pretrained_cfg.get("license") or "unknown") if pretrained else "unknown",
        sha256=state_sha256(model.state_dict()),
    )
