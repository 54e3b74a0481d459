"""The same file means the same to PEFT and to EdgeFM, in both directions, for every family of encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from edgefm.adapt.adapters import layers_of, place, put_in, read_out
from edgefm.models import LoadedModel
from edgefm.models.encoder import ImageTower, TimmEncoder, TransformersEncoder
from edgefm.models.peft_format import load_adapter, save_adapter
from edgefm.models.probe import ProbeEncoder, classifier_of
from edgefm.spec.recipe import LoraRecipe

from ..models.conftest import randomise, write_timm_folder
from .adapted import MAKERS, RANK, adapted, answers, classified, stir

peft = pytest.importorskip("peft")
RECIPE = LoraRecipe(rank=RANK, alpha=8.0)
EXACT = {"rtol": 0, "atol": 1e-5}  # logits are of the order of 1


class Clip(nn.Module):
    """Where open_clip has its image tower."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual


def library_model(model: LoadedModel) -> nn.Module:
    """What a user of the library would give to PEFT."""
    base = model.module.base if isinstance(model.module, ProbeEncoder) else model.module
    if isinstance(base, TimmEncoder):
        return base.model
    if isinstance(base, TransformersEncoder):
        return base.body
    assert isinstance(base, ImageTower)
    return Clip(base)


def same_head(model: LoadedModel, other: LoadedModel) -> None:
    """A classifier on top is in no adapter."""
    if isinstance(model.module, ProbeEncoder):
        classifier_of(other.module).load_state_dict(classifier_of(model.module).state_dict())


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_peft_answers_as_we_do_from_our_file(tmp_path: Path, make: Callable[[Path], str]) -> None:
    source = make(tmp_path / "model")
    model, _ = adapted(source)
    (tmp_path / "adapter").mkdir()
    save_adapter(tmp_path / "adapter", read_out(model.module, RECIPE))
    plain = classified(source)
    same_head(model, plain)
    before = answers(plain)
    peft.PeftModel.from_pretrained(library_model(plain), str(tmp_path / "adapter"))  # puts its layers into the model
    for ours, theirs, without in zip(answers(model), answers(plain), before):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert (theirs - without).abs().max() > 0.01


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_we_answer_as_peft_does_from_its_file(tmp_path: Path, make: Callable[[Path], str]) -> None:
    source = make(tmp_path / "model")
    theirs = classified(source)
    names = list(adapted(source)[1])
    saved = None if isinstance(theirs.module, ProbeEncoder) else ["head"]
    config = peft.LoraConfig(r=RANK, lora_alpha=8, target_modules=names, modules_to_save=saved, init_lora_weights=False)
    wrapped = peft.get_peft_model(library_model(theirs), config)
    if saved:
        with torch.no_grad():
            for value in wrapped.base_model.model.head.parameters():
                value.normal_(generator=torch.Generator().manual_seed(1))
    wrapped.save_pretrained(tmp_path / "adapter")
    ours = classified(source)
    place(ours.module, RECIPE, ours.name)
    same_head(theirs, ours)
    adapter = load_adapter(tmp_path / "adapter")
    assert adapter.modules == tuple(saved or ())
    put_in(ours.module, adapter)
    for mine, peers in zip(answers(ours), answers(theirs)):
        torch.testing.assert_close(mine, peers, **EXACT)


def test_peft_applies_an_adapter_on_beits_fused_qkv_once_it_is_merged(tmp_path: Path) -> None:
    """BEiT's attention multiplies by `qkv.weight` itself, which in PEFT is the frozen one: docs/researcher.md says so."""
    stated = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    inner = randomise(timm.create_model("beit_base_patch16_224", num_classes=0, **stated))
    source = str(write_timm_folder(tmp_path / "model", "beit_base_patch16_224", inner, model_args=stated))
    model, _ = adapted(source)
    (tmp_path / "adapter").mkdir()
    save_adapter(tmp_path / "adapter", read_out(model.module, RECIPE))
    plain = classified(source)
    wrapped = peft.PeftModel.from_pretrained(library_model(plain), str(tmp_path / "adapter"))
    assert (answers(plain)[0] - answers(model)[0]).abs().max() > 1e-3
    wrapped.merge_and_unload()
    for ours, theirs in zip(answers(model), answers(plain)):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_an_nf4_base_answers_as_peft_on_bitsandbytes(tmp_path: Path) -> None:
    """The same bytes of NF4, the same adapter file, in fp32 on the CPU. Rows are whole blocks of 64: of others the kernel of
    bitsandbytes 0.50 for AVX-512 takes the scales of wrong blocks."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    stated = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2}
    inner = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **stated))
    source = str(write_timm_folder(tmp_path / "model", "vit_tiny_patch16_224", inner, model_args=stated))
    model, layers = adapted(source, RECIPE, kind="nf4")
    (tmp_path / "adapter").mkdir()
    save_adapter(tmp_path / "adapter", read_out(model.module, RECIPE))
    plain = classified(source)
    library = library_model(plain)
    for name in layers:
        old = library.get_submodule(name)
        assert isinstance(old, nn.Linear)
        small = bitsandbytes.nn.Linear4bit(
            old.in_features, old.out_features, compute_dtype=torch.float32, compress_statistics=True, quant_type="nf4"
        )
        small.load_state_dict(old.state_dict())
        parent, _, child = name.rpartition(".")
        setattr(library.get_submodule(parent), child, small.to("cpu"))
    library.is_loaded_in_4bit = True
    peft.PeftModel.from_pretrained(library, str(tmp_path / "adapter"))
    for part in library.modules():
        if isinstance(part, bitsandbytes.nn.Linear4bit):
            part.train()  # else it computes in bf16 where the processor can
    for ours, theirs in zip(answers(model), answers(plain)):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_an_adapter_of_another_model_rank_or_alpha_is_refused(tmp_path: Path) -> None:
    from edgefm.errors import InputError

    source = MAKERS[0](tmp_path / "model")
    model, _ = adapted(source)
    adapter = read_out(model.module, RECIPE)
    for recipe, said in (
        (LoraRecipe(rank=2, alpha=4.0), r"factors of blocks\.0\.attn\.qkv are \[4, 32\], \[96, 4\]; expected \[2, 32\]"),
        (LoraRecipe(rank=RANK, alpha=4.0), "counts 2 times, blocks.0.attn.qkv 1 times"),
        (LoraRecipe(rank=RANK, alpha=8.0, targets=("attn.qkv",)), "has 8 layers and the model 2; blocks.0.attn.proj is not in"),
    ):
        other = classified(source)
        place(other.module, recipe, other.name)
        before = [layer.b.clone() for layer in layers_of(other.module).values()]
        with pytest.raises(InputError, match=said):
            put_in(other.module, adapter)
        assert all(torch.equal(layer.b, old) for layer, old in zip(layers_of(other.module).values(), before))
    stir(model.module, seed=9)
    put_in(model.module, adapter)
    other, _ = adapted(MAKERS[1](tmp_path / "other"))
    with pytest.raises(InputError, match=r"factors of blocks\.0\.attn\.qkv are \[4, 32\], .* expected \[4, 64\]"):
        put_in(other.module, adapter)
