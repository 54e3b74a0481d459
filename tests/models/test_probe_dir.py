"""A run directory of a classifier on any model comes back as it was, or says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torch import nn

from edgefm.errors import InputError
from edgefm.models import list_taps, load_model
from edgefm.models.base_dir import savable
from edgefm.models.probe import ProbeEncoder, base_of
from edgefm.models.probe_dir import lasting_source
from edgefm.spec.preprocess import Preprocess

from ..limits import files_of_at_most
from .conftest import randomise
from .probe_cases import (
    CODE,
    ELSEWHERE,
    LINEAGE,
    SAVABLE,
    Make,
    clip_mlp,
    function,
    onnx,
    own_timm,
    phikon_folder,
    probed,
    same,
    save,
)
from .test_frozen import contract, graph
from .test_hf_dir import phikon, write


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


def test_a_tower_at_another_size_than_its_positions_were_learned_at_comes_back(tmp_path: Path) -> None:
    folder = Path(clip_mlp(tmp_path / "model"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 48
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    loaded, probe = probed(str(folder))
    assert loaded.preprocess.size == 48
    same(load_model(save(tmp_path / "run", None, loaded, probe)), probe)


def test_a_full_disk_is_told_whatever_the_layout(tmp_path: Path) -> None:
    for make in (own_timm, phikon_folder, clip_mlp):
        loaded, probe = probed(make(tmp_path / make.__name__))
        with files_of_at_most(20_000), pytest.raises(InputError, match=r"cannot be written \(.*File too large"):
            save(tmp_path / f"run-{make.__name__}", None, loaded, probe)
