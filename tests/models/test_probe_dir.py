"""A classifier on any model: where it goes, and that a run directory with it comes back as it was, or says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import nn

from edgefm.errors import InputError
from edgefm.models import LoadedModel, list_taps, load_model, save_run
from edgefm.models.base_dir import savable
from edgefm.models.encoder import TimmEncoder
from edgefm.models.probe import ProbeEncoder, base_of, classifier_of, with_classifier
from edgefm.models.probe_dir import lasting_source
from edgefm.spec.manifest import Ancestor
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import make_task

from .conftest import randomise, write_timm_folder
from .test_encoders import CFG, VIRCHOW2
from .test_frozen import contract, graph
from .test_hf_dir import TINY, phikon, write
from .test_open_clip import Linear, Mlp, biomedclip

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


def function(folder: Path) -> str:
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    return f"{folder / 'mine.py'}:teacher"


def onnx(folder: Path) -> str:
    folder.mkdir()
    contract(folder)
    return str(graph(folder / "net.onnx"))


WHOLE = (own_timm, virchow, projected, odd_timm)
SAVABLE = (*WHOLE, phikon_folder, rad_dino_classifier, clip_linear, clip_mlp)
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


@pytest.mark.parametrize("make", SAVABLE, ids=lambda make: make.__name__)
def test_a_classifier_stands_on_the_models_own_embedding(tmp_path: Path, make: Make) -> None:
    loaded, probe = probed(make(tmp_path / "model"))
    x = image(loaded)
    with torch.no_grad():
        logits, embedding, _ = probe.module(x)
        torch.testing.assert_close(embedding, loaded.module(x).embedding)
        torch.testing.assert_close(logits, classifier_of(probe.module)(embedding))
    assert isinstance(probe.module, TimmEncoder) == (make is own_timm)


@pytest.mark.parametrize("make", SAVABLE, ids=lambda make: make.__name__)
def test_a_whole_run_comes_back_though_the_model_is_gone(tmp_path: Path, make: Make) -> None:
    loaded, probe = probed(make(tmp_path / "model"))
    randomise(base_of(probe.module), seed=7)  # as if every weight had been trained
    assert savable(base_of(probe.module))
    out = save(tmp_path / "run", None, loaded, probe)
    shutil.rmtree(tmp_path / "model")
    back = load_model(out)
    same(back, probe)
    assert back.ancestors == LINEAGE
    again = save(tmp_path / "again", None, loaded, probe)
    files = [file.relative_to(out) for file in out.rglob("*") if file.is_file()]
    assert all((out / file).read_bytes() == (again / file).read_bytes() for file in files)


@pytest.mark.parametrize("make", ELSEWHERE, ids=lambda make: make.__name__)
def test_a_probe_names_its_model_and_copies_nothing(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = make(Path("model"))  # a relative path
    loaded, probe = probed(source)
    out = save(tmp_path / "run", source, loaded, probe)
    assert sorted(file.name for file in out.iterdir()) == ["edgefm.json", "head.safetensors", "recipe.yaml"]
    monkeypatch.chdir("/")
    back = load_model(out, trust_remote_code=True)
    same(back, probe)
    assert back.kind == loaded.kind == ("frozen" if make is onnx else "torch")
    assert back.ancestors == LINEAGE
    assert load_model(out, licence="CC0-1.0", trust_remote_code=True).licence == "CC0-1.0"
    assert back.sha256 not in (loaded.sha256, probe.sha256)


def test_a_tapped_node_is_part_of_what_a_probe_stands_on(tmp_path: Path) -> None:
    for make, tap in ((own_timm, "blocks.0"), (onnx, "features")):
        source = make(tmp_path / f"model-{tap}")
        loaded, probe = probed(source, tap)
        same(load_model(save(tmp_path / tap, source, loaded, probe, tap)), probe)


def test_a_probe_on_a_probe_stands_on_it(tmp_path: Path) -> None:
    source = phikon_folder(tmp_path / "model")
    first = save(tmp_path / "first", source, *probed(source))
    loaded, probe = probed(str(first))
    assert not isinstance(base_of(probe.module), ProbeEncoder)
    same(load_model(save(tmp_path / "second", str(first), loaded, probe)), probe)


def test_code_is_not_run_again_without_being_told(tmp_path: Path) -> None:
    source = function(tmp_path / "model")
    out = save(tmp_path / "run", source, *probed(source))
    assert "trust" not in (out / "edgefm.json").read_text()
    with pytest.raises(InputError, match=r"run stands on a model: .*mine\.py:teacher would run the code.*--trust-remote-code"):
        load_model(out)


def test_a_model_that_has_moved_is_named(tmp_path: Path) -> None:
    for make in (phikon_folder, function, onnx):
        source = make(tmp_path / make.__name__)
        out = save(tmp_path / f"run-{make.__name__}", source, *probed(source))
        (tmp_path / make.__name__).rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=rf"stands on .*{make.__name__}.*, which is not there\. Put it back") as refusal:
            load_model(out, trust_remote_code=True)
        assert "\n" not in str(refusal.value)
        (tmp_path / "elsewhere").rename(tmp_path / make.__name__)
        load_model(out, trust_remote_code=True)
        shutil.rmtree(tmp_path / make.__name__)


def test_a_model_that_has_changed_is_refused(tmp_path: Path) -> None:
    source = phikon_folder(tmp_path / "phikon")
    out = save(tmp_path / "run", source, *probed(source))
    write(tmp_path / "phikon", randomise(phikon(), seed=3))
    with pytest.raises(InputError, match=r"phikon has changed since .*run was fitted on it; expected SHA-256"):
        load_model(out)
    source = function(tmp_path / "code")
    out = save(tmp_path / "coded", source, *probed(source))
    (tmp_path / "code" / "mine.py").write_text(CODE.replace("x.mean", "x.amax"))  # the same weights, another answer
    with pytest.raises(InputError, match="has changed"):
        load_model(out, trust_remote_code=True)


def test_a_graphs_weights_beside_it_are_part_of_it(tmp_path: Path) -> None:
    import onnx as onnx_library
    import openvino

    (tmp_path / "ir").mkdir()
    openvino.save_model(openvino.convert_model(graph(tmp_path / "net.onnx")), tmp_path / "ir" / "net.xml", False)
    (tmp_path / "external").mkdir()
    model = onnx_library.load(tmp_path / "net.onnx")
    target = tmp_path / "external" / "net.onnx"
    onnx_library.save(model, target, save_as_external_data=True, location="net.weights", size_threshold=0)
    for source, weights in ((tmp_path / "ir" / "net.xml", "net.bin"), (target, "net.weights")):
        contract(source.parent)
        out = save(tmp_path / f"run-{weights}", str(source), *probed(str(source)))
        load_model(out)
        beside = source.parent / weights
        data = bytearray(beside.read_bytes())
        data[1] ^= 1
        beside.write_bytes(data)
        with pytest.raises(InputError, match="has changed"):
            load_model(out)


def test_a_module_without_a_source_cannot_be_named(tmp_path: Path) -> None:
    module = nn.Flatten()
    module.preprocess = Preprocess(size=2, resize_to=2)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"Flatten has no source.*Put what makes it into a function and give FILE"):
        lasting_source(module, None, load_model(module))
    assert not savable(load_model(module).module)


def test_python_that_says_too_little_about_a_timm_model_is_noticed(tmp_path: Path) -> None:
    told = timm.create_model("test_vit", num_classes=0, img_size=64)
    assert savable(load_model(told).module)
    untold = timm.create_model("test_vit", num_classes=0)
    untold.blocks = untold.blocks[:1]
    loaded = load_model(untold)
    assert not savable(loaded.module)
    assert isinstance(with_classifier(loaded, TASK, 64).module, ProbeEncoder)


def test_a_classifier_is_the_same_for_the_same_seed_and_leaves_the_model_alone(tmp_path: Path) -> None:
    loaded = load_model(own_timm(tmp_path / "model"))
    before = torch.random.get_rng_state()
    one, two, other = (with_classifier(loaded, TASK, 32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [classifier_of(each.module).weight for each in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std() < 0.02
    assert loaded.module(image(loaded)).logits is None


def test_tokens_of_the_model_under_a_classifier_are_there(tmp_path: Path) -> None:
    probe: Any = probed(phikon_folder(tmp_path / "model"))[1].module
    assert probe(torch.zeros(1, 3, 28, 28)).tokens is None
    probe.tokens = True
    assert probe(torch.zeros(1, 3, 28, 28)).tokens.shape == (1, 32, 2, 2)
    assert not hasattr(probed(function(tmp_path / "code"))[1].module, "tokens")


def test_nodes_under_a_classifier_keep_their_names(tmp_path: Path) -> None:
    loaded, probe = probed(phikon_folder(tmp_path / "model"))
    out = save(tmp_path / "run", None, loaded, probe)
    names = [tap.name for tap in list_taps(out)]
    assert names == [tap.name for tap in list_taps(str(tmp_path / "model"))]
    assert names
    x = image(loaded)
    with torch.no_grad():
        found = load_model(out, tap=names[0]).module(x).embedding
        torch.testing.assert_close(found, load_model(str(tmp_path / "model"), tap=names[0]).module(x).embedding)


def test_a_tap_of_a_frozen_model_is_asked_of_that_itself(tmp_path: Path) -> None:
    source = onnx(tmp_path / "model")
    out = save(tmp_path / "run", source, *probed(source))
    with pytest.raises(InputError, match=r"run is a classifier on .*net\.onnx\. Give that itself, with --tap features"):
        load_model(out, tap="features")
    with pytest.raises(InputError, match=r"run is a classifier on a frozen graph\. Ask that graph itself"):
        list_taps(out)


def test_damaged_files_of_a_probe_are_named(tmp_path: Path) -> None:
    source = phikon_folder(tmp_path / "model")
    out = save(tmp_path / "run", source, *probed(source))
    whole = (out / "head.safetensors").read_bytes()
    (out / "head.safetensors").write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"head\.safetensors is not a whole safetensors file"):
        load_model(out)
    (out / "head.safetensors").unlink()
    with pytest.raises(InputError, match=r"head\.safetensors"):
        load_model(out)
    (out / "head.safetensors").write_bytes(whole)
    card = json.loads((out / "edgefm.json").read_text())
    for broken in (card | {"format": 2}, card | {"zeal": 1}, card | {"base": {"source": 3}}):
        (out / "edgefm.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"edgefm\.json cannot be read"):
            load_model(out)
    (out / "edgefm.json").write_text(json.dumps(card | {"task": {"kind": "multiclass", "labels": ["a", "b"]}}))
    with pytest.raises(InputError, match=r"weights in .*head\.safetensors do not fit"):
        load_model(out)
