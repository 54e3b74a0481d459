"""What stops the verb, and what little is enough. Not what it makes (`test_adapt.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgefm.errors import ImageError, InputError
from edgefm.models import load_model
from edgefm.settings import load_recipe
from edgefm.spec.preprocess import Preprocess

from .runs import METHODS, Make, Method, run, weights


class Mine(nn.Module):
    preprocess = Preprocess(size=32, resize_to=32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def test_a_module_without_a_source_is_refused_before_anything_is_computed(tmp_path: Path, make_data: Make) -> None:
    with pytest.raises(InputError, match=r"Mine has no source that a run directory could name.*FILE.py:FUNCTION"):
        run(Mine(), make_data(), tmp_path / "run")
    assert not list(tmp_path.glob("run*"))


def test_what_cannot_be_saved_is_not_fine_tuned(tmp_path: Path, make_data: Make, vit: Path, code: str) -> None:
    with pytest.raises(InputError, match=r"no layout that its changed weights could be saved in.*Use --method linear"):
        run(code, make_data(), tmp_path / "run", "full")
    with pytest.raises(InputError, match=r"--tap blocks\.0 cuts the model short.*use --method linear"):
        run(vit, make_data(), tmp_path / "run", "full", tap="blocks.0")
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize("method", METHODS)
def test_data_that_teach_nothing_are_refused(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    with pytest.raises(InputError, match=r"has no labels; expected labels to learn from.*edgefm distill"):
        run(vit, make_data(labels=None), tmp_path / "run", method)
    with pytest.raises(InputError, match="all labels are 'one'"):
        run(vit, make_data(labels=("one",)), tmp_path / "run", method)
    data = make_data()
    lines = data.read_text().splitlines()
    kept = [line for line in lines if not ("train" in line and "dark" in line)]
    data.write_text("\n".join(kept) + "\n")
    with pytest.raises(InputError, match=r"train of .* has no image of 'dark'; expected images of every class"):
        run(vit, data, tmp_path / "run", method)
    data = make_data(labels=("a|b", "a|b"))
    data.write_text(data.read_text().replace("13.png,a|b", "13.png,a"))
    with pytest.raises(InputError, match="all images have the same labels"):
        run(vit, data, tmp_path / "run", method)
    assert not list(tmp_path.glob("run*"))


def test_without_validation_images_only_fine_tuning_goes_on(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data = make_data(val=0)
    with pytest.raises(InputError, match="has no images in the split 'val'"):
        run(vit, data, tmp_path / "run", "linear", "data.val=0")
    out = run(vit, data, tmp_path / "run", "full", "data.val=0")
    found = json.loads((out / "evaluation.json").read_text())
    assert (found["best_epoch"], found["val"], found["images"]["val"]) == (2, {}, 0)


@pytest.mark.parametrize("method", METHODS)
def test_one_validation_image_is_enough(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    out = run(vit, make_data(val=1), tmp_path / "run", method)
    assert "auc" not in json.loads((out / "evaluation.json").read_text())["val"]


def test_two_training_images_are_enough(tmp_path: Path, make_data: Make, vit: Path) -> None:
    for method in METHODS:
        run(vit, make_data(train=2), tmp_path / method, method)
        assert load_model(tmp_path / method).task.labels == ("bright", "dark")


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_model_is_told(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    from safetensors.torch import save_file

    state = weights(vit)
    state["blocks.1.mlp.fc2.bias"][3] = float("nan")
    save_file(state, vit / "model.safetensors")
    said = "not finite" if method == "linear" else "the loss became nan"
    with pytest.raises(InputError, match=said):
        run(vit, make_data(), tmp_path / "run", method)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", METHODS)
def test_broken_images_are_named_or_left_out(tmp_path: Path, make_data: Make, vit: Path, method: Method) -> None:
    data, lines = make_data(), list[str]()
    (data.parent / "3.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="row 5"):
        run(vit, data, tmp_path / "run", method)
    assert not list(tmp_path.glob("run*"))
    out = run(vit, data, tmp_path / "run", method, "data.broken=skip", report=lines.append)
    assert any(line.startswith("left out: row 5") for line in lines)
    assert json.loads((out / "evaluation.json").read_text())["images"]["train"] == 11


def test_an_existing_output_is_kept_without_force(tmp_path: Path, make_data: Make, vit: Path, code: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        run(vit, make_data(), tmp_path / "run")
    with pytest.raises(InputError, match="files that edgefm did not make, such as mine"):
        run(code, make_data(), tmp_path / "run", force=True)
    assert (tmp_path / "run" / "mine").read_text() == "precious"
    (tmp_path / "run" / "mine").rename(tmp_path / "run" / "recipe.yaml")
    run(code, make_data(), tmp_path / "run", force=True)
    assert (tmp_path / "run" / "edgefm.json").exists()
    with pytest.raises(InputError, match=r"stands on .*run, which it would replace"):
        run(tmp_path / "run", make_data(), tmp_path / "run", force=True)


def interrupt(line: str) -> None:
    """Stop a run of either method once it has kept something."""
    if line.startswith(("epoch 1", "C = ")):
        raise KeyboardInterrupt


def test_a_run_of_other_settings_is_not_taken_up(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data = make_data()
    for method in METHODS:
        with pytest.raises(KeyboardInterrupt):
            run(vit, data, tmp_path / method, method, report=interrupt)
        assert (tmp_path / f"{method}.partial" / "state").is_dir()
    with pytest.raises(InputError, match=r"recipe\.adapt\.lr was 0\.001 and is 0\.002"):
        run(vit, data, tmp_path / "full", "full", "adapt.lr=2e-3", resume=True)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(data.parent / "0.png")
    for method in METHODS:
        with pytest.raises(InputError, match="data was"):
            run(vit, data, tmp_path / method, method, resume=True)
    make_data()
    for method in METHODS:
        run(vit, data, tmp_path / method, method, "quantize.max_drop=0.1", resume=True)  # not a setting of this verb
    assert msgspec.to_builtins(load_recipe(tmp_path / "linear" / "recipe.yaml"))["quantize"]["max_drop"] == 0.1


def test_features_of_another_node_or_another_window_are_not_taken_up(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data = make_data()
    with pytest.raises(KeyboardInterrupt):
        run(str(vit), data, tmp_path / "run", tap="blocks.0", report=interrupt)
    with pytest.raises(InputError, match=r"tap was blocks\.0 and is blocks\.1"):
        run(str(vit), data, tmp_path / "run", tap="blocks.1", resume=True)
    with pytest.raises(InputError, match=r"preprocess\.window16 was"):
        run(str(vit), data, tmp_path / "run", "linear", "preprocess.window16=[0, 255]", tap="blocks.0", resume=True)


def test_a_run_whose_data_are_read_another_way_is_not_taken_up(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data = make_data()
    for method in METHODS:
        with pytest.raises(KeyboardInterrupt):
            run(vit, data, tmp_path / method, method, "data.positive=bright", report=interrupt)
        # The same labels in the other order: a model that went on would answer with its classes swapped.
        with pytest.raises(InputError, match=r"recipe\.data\.positive was bright and is dark, task\.labels was"):
            run(vit, data, tmp_path / method, method, "data.positive=dark", resume=True)
        with pytest.raises(InputError, match=r"recipe\.data\.frame was None and is 0"):
            run(vit, data, tmp_path / method, method, "data.positive=bright", "data.frame=0", resume=True)
