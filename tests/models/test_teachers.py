"""Every form of MODEL finds its loader, and every wrong one a remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model

from .conftest import TINY_VIT, write_timm_folder

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def refusal(source: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_path_is_named_with_what_lies_near(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    assert f"no file or folder {tmp_path}/studnet; expected perhaps {tmp_path}/student" in refusal(tmp_path / "studnet")
    assert "Check the path" in refusal("/nowhere/at/all")


def test_a_bare_hub_id_is_told_its_prefix() -> None:
    assert "write hf-hub:MahmoodLab/UNI2-h" in refusal("MahmoodLab/UNI2-h")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert f"the folder {tmp_path} is empty" in refusal(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no config.json" in refusal(tmp_path)


def test_a_folder_of_run_directories_is_told_to_name_one(tmp_path: Path) -> None:
    for site in ("north", "east"):
        (tmp_path / site).mkdir()
        (tmp_path / site / "edgefm.json").write_text("{}")
    assert "holds several models: east, north" in (said := refusal(tmp_path))
    assert f"such as {tmp_path / 'east'}" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"architecture": '], ids=["empty", "open", "list", "cut"])
def test_a_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert "config.json is not" in refusal(tmp_path)


def test_a_config_of_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden": 3}')
    assert "states neither architecture (timm) nor model_type (transformers)" in refusal(tmp_path)


@pytest.mark.parametrize("config", [{"architecture": "resnet18"}, {"model_type": "dinov2"}], ids=["timm", "transformers"])
def test_a_config_without_weights_is_refused(tmp_path: Path, config: dict[str, str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert f"{tmp_path} holds no weights; expected model.safetensors" in refusal(tmp_path)


def test_an_unknown_architecture_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "densnet121"}')
    assert "timm has no model 'densnet121'; expected one of densenet121" in refusal(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiles.csv").write_text("file\n")
    assert "tiles.csv is not a model" in refusal(tmp_path / "tiles.csv")


@pytest.mark.parametrize(
    ("cfg", "complaint"),
    [
        ({"interpolation": "lanczos"}, "filter 'lanczos'; expected bilinear or bicubic"),
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"input_size": [3, 32, 64], "fixed_input_size": False}, "32 x 64 pixels"),
        ({"std": [0, 1, 1]}, "preprocessing of"),
        ({"mean": [0.5]}, "mean and std need 3 values"),
        ({"crop_pct": 1.5}, "smaller than size"),
    ],
)
def test_a_preprocessing_that_has_no_word_is_refused(
    tmp_path: Path, tiny_vit: nn.Module, cfg: dict[str, object], complaint: str
) -> None:
    folder = write_timm_folder(tmp_path / "odd", "vit_tiny_patch16_224", tiny_vit, num_classes=3, cfg=cfg, model_args=TINY_VIT)
    assert complaint in refusal(folder)


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c", "d"], ["a", "a", "b"]], ids=["few", "many", "twice"])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, tiny_vit: nn.Module, names: list[str]) -> None:
    folder = write_timm_folder(
        tmp_path / "odd", "vit_tiny_patch16_224", tiny_vit, num_classes=3, label_names=names, model_args=TINY_VIT
    )
    assert "label" in refusal(folder)


def test_labels_come_as_a_list_or_by_class_index(tmp_path: Path, tiny_vit: nn.Module) -> None:
    for names, expected in ((["a", "b", "c"], ("a", "b", "c")), ({"0": "a", "2": "c"}, ("a", "1", "c"))):
        folder = write_timm_folder(
            tmp_path / "labels", "vit_tiny_patch16_224", tiny_vit, num_classes=3, label_names=names, model_args=TINY_VIT
        )
        assert load_model(folder).task.labels == expected


def test_the_licence_is_the_users_then_the_configs_then_the_readmes_then_unknown(tiny_vit_folder: Path) -> None:
    assert load_model(tiny_vit_folder).licence == "unknown"
    (tiny_vit_folder / "README.md").write_text('---\ntags: [a]\nlicense: "cc-by-nc-nd-4.0"\n---\n# X\n')
    assert load_model(tiny_vit_folder).licence == "cc-by-nc-nd-4.0"
    config = json.loads((tiny_vit_folder / "config.json").read_text())
    config["pretrained_cfg"]["license"] = "apache-2.0"
    (tiny_vit_folder / "config.json").write_text(json.dumps(config))
    assert load_model(tiny_vit_folder).licence == "apache-2.0"
    assert load_model(tiny_vit_folder, licence="MIT").licence == "MIT"


def test_the_front_door_can_list_presets_without_torch() -> None:
    code = (
        "import sys; from edgefm.models import PRESETS, LoadedModel; print(len(PRESETS), {'torch', 'timm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "3 set()\n"


@pytest.mark.slow
def test_the_real_teacher_keeps_its_own_grey_mean(real_data: Path) -> None:
    loaded = load_model(real_data / "teachers" / "densenet121_cxr")
    assert loaded.preprocess.mean == (0.485, 0.485, 0.485)
    assert loaded.task.labels == ("normal", "pneumonia")
    assert loaded.licence == "apache-2.0"
    with torch.no_grad():
        logits, embedding, _ = loaded.module(torch.rand(2, 3, 224, 224))
    assert logits is not None
    assert (logits.shape, embedding.shape) == ((2, 2), (2, 1024))


@pytest.mark.parametrize(
    "call", ["load_model('resnet18')", "list_taps('resnet18')", "build_student('tiny', task=None, preprocess=None, seed=0)"]
)
@pytest.mark.parametrize("library", ["torch", "timm"])
def test_a_device_without_the_workstations_libraries_is_told_which_extra(call: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from edgefm.models import *; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"working with models needs {library}, which is not installed here. Install it with: pip install" in done.stderr
    assert "edgefm[compress]" in done.stderr
