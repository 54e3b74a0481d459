"""Models of every kind that a classifier can stand on, as small folders, and what tests do with them. Not tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import timm
import torch
import transformers
from torch import nn

from edgefm.models import LoadedModel, load_model, save_run
from edgefm.models.encoder import TimmEncoder
from edgefm.models.probe import classifier_of, with_classifier
from edgefm.models.probe_dir import lasting_source
from edgefm.spec.manifest import Ancestor
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import make_task

from .conftest import randomise, write_timm_folder
from .test_encoders import CFG, VIRCHOW2
from .test_frozen import contract, graph
from .test_hf_dir import TINY, phikon, write
from .test_open_clip import Linear, Mlp, biomedclip, own_clip

TASK = make_task("multiclass", ("normal", "bacterial", "viral"))
LINEAGE = (Ancestor(role="model", name="encoder", licence="mit", sha256="0" * 64),)
CODE = """
import torch
from edgefm.spec.preprocess import Preprocess

class Mean(torch.nn.Module):
    preprocess = Preprocess(size=8, resize_to=8)

    def forward(self, x):
        return x.mean(dim=(2, 3))

def teacher():
    return Mean()
"""
Make = Callable[[Path], str]


def virchow(folder: Path) -> str:
    model = timm.create_model("vit_huge_patch14_224", mlp_layer=timm.layers.SwiGLUPacked, act_layer=nn.SiLU, **VIRCHOW2)
    write_timm_folder(folder, "vit_huge_patch14_224", randomise(model), cfg=CFG, model_args=VIRCHOW2)
    return str(folder)


def own_timm(folder: Path) -> str:
    stated = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **stated))
    return str(write_timm_folder(folder, "vit_tiny_patch16_224", model, model_args=stated))


def projected(folder: Path) -> str:
    """What `distill` makes of a teacher without logits."""
    loaded = load_model(own_timm(folder.with_name("own")))
    loaded = with_classifier(loaded, make_task("multilabel", tuple("abcd")), 32)
    assert isinstance(loaded.module, TimmEncoder)
    loaded.module.pooling = "projected"
    folder.mkdir()
    randomise(loaded.module)
    save_run(folder, LoadedModel(**{**vars(loaded), "task": make_task("embedding")}), Recipe(), ())
    return str(folder)


def odd_timm(folder: Path) -> str:
    """A BiT: its classifier is a convolution."""
    stated = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_chs": 8}
    model = randomise(timm.create_model("resnetv2_50", num_classes=5, **stated))
    cfg = {"input_size": [3, 32, 32], "fixed_input_size": False}
    return str(write_timm_folder(folder, "resnetv2_50", model, num_classes=5, model_args=stated, cfg=cfg))


def phikon_folder(folder: Path) -> str:
    return str(write(folder, phikon()))


def rad_dino_classifier(folder: Path) -> str:
    """Its classifier, and so what goes into it, is the class token beside the mean of the patch tokens."""
    config = transformers.Dinov2Config(image_size=28, patch_size=14, **TINY)
    return str(write(folder, randomise(transformers.Dinov2ForImageClassification(config))))


def clip_linear(folder: Path) -> str:
    biomedclip(folder, Linear())
    return str(folder)


def clip_mlp(folder: Path) -> str:
    biomedclip(folder, Mlp())
    return str(folder)


def clip_own(folder: Path) -> str:
    """CLIP's own tower, attention with `in_proj_weight`."""
    own_clip(folder)
    return str(folder)


def function(folder: Path) -> str:
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    return f"{folder / 'mine.py'}:teacher"


def onnx(folder: Path) -> str:
    folder.mkdir()
    contract(folder)
    return str(graph(folder / "net.onnx"))


WHOLE = (own_timm, virchow, projected, odd_timm)
SAVABLE = (*WHOLE, phikon_folder, rad_dino_classifier, clip_linear, clip_mlp, clip_own)
ELSEWHERE = (phikon_folder, rad_dino_classifier, clip_mlp, function, onnx)


def probed(source: str, tap: str | None = None) -> tuple[LoadedModel, LoadedModel]:
    """The model, and it with a classifier whose weights are not small."""
    loaded = load_model(source, tap=tap, trust_remote_code=True)
    probe = with_classifier(loaded, TASK, width(loaded))
    with torch.no_grad():
        for value in classifier_of(probe.module).parameters():
            value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(2)))
    return loaded, probe


def image(loaded: LoadedModel, count: int = 2) -> torch.Tensor:
    side = loaded.preprocess.size
    return torch.rand(count, loaded.preprocess.channels, side, side, generator=torch.Generator().manual_seed(1))


def width(loaded: LoadedModel) -> int:
    with torch.no_grad():
        return int(loaded.module(image(loaded)).embedding.shape[1])


def save(folder: Path, source: str | None, loaded: LoadedModel, probe: LoadedModel, tap: str | None = None) -> Path:
    folder.mkdir()
    save_run(folder, probe, Recipe(), LINEAGE, None if source is None else lasting_source(source, tap, loaded))
    return folder


@torch.no_grad()
def same(one: LoadedModel, other: LoadedModel) -> None:
    x = image(one)
    for mine, theirs in zip(one.module(x)[:2], other.module(x)[:2]):
        torch.testing.assert_close(mine, theirs)
    assert (one.task, one.preprocess, one.licence, one.name) == (other.task, other.preprocess, other.licence, other.name)
