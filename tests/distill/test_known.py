"""A teacher on disk that has answered everything is not loaded again, and one that has changed is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgefm.distill import known
from edgefm.errors import InputError
from edgefm.models import load_model, save_run
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import Recipe

from ..models.conftest import TINY_VIT, randomise, write_timm_folder
from .test_distill import run, write_onnx_teacher

Make = Callable[..., Path]
LABELS = ["dark", "bright"]
ASKED = 10 * 2 + 6  # two views of 10 images of train, and 6 of val


def timm_folder(folder: Path) -> Path:
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=2, **TINY_VIT))
    return write_timm_folder(
        folder / "timm", "vit_tiny_patch16_224", model, num_classes=2, model_args=TINY_VIT, label_names=LABELS
    )


def run_directory(folder: Path) -> Path:
    (folder / "run_directory").mkdir()
    save_run(folder / "run_directory", load_model(timm_folder(folder)), Recipe(), ())
    return folder / "run_directory"


def hugging_face(folder: Path) -> Path:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=32, patch_size=16, id2label=dict(enumerate(LABELS)), **sizes)
    randomise(transformers.ViTForImageClassification(config)).save_pretrained(folder / "hf")
    return folder / "hf"


def onnx_graph(folder: Path) -> Path:
    write_onnx_teacher(folder / "teacher.onnx")
    (folder / "labels.json").write_text(json.dumps(LABELS))
    prepare = Preprocess(channels=1, size=32, resize_to=32, mean=(0.5,), std=(0.25,))
    (folder / "preprocess.json").write_bytes(msgspec.json.encode(prepare))
    return folder / "teacher.onnx"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was loaded as a teacher."""
    found: list[Path] = []

    def load(source: Any, **options: Any) -> Any:
        found.append(source)
        return load_model(source, **options)

    monkeypatch.setattr(known, "load_model", load)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [timm_folder, run_directory, hugging_face, onnx_graph])
def test_with_all_answers_in_the_cache_no_teacher_is_loaded(
    tmp_path: Path, make_data: Make, loads: list[Path], make: Callable[[Path], Path]
) -> None:
    teacher, data, lines = make(tmp_path), make_data(), list[str]()
    run(teacher, data, tmp_path / "first")
    assert loads == [teacher]
    again = run(teacher, data, tmp_path / "again", report=lines.append)
    assert loads == [teacher]
    assert any(line.startswith(f"the teacher is not asked: its {ASKED} answers") for line in lines)
    for name in ("model.safetensors", "edgefm.json", "evaluation.json"):
        assert (again / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_neither_the_control_arm_nor_a_resumed_run_loads_it(tmp_path: Path, make_data: Make, loads: list[Path]) -> None:
    teacher, data = timm_folder(tmp_path), make_data()

    def interrupt(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(teacher, data, tmp_path / "run", "distill.epochs=3", report=interrupt)
    run(teacher, data, tmp_path / "run", "distill.epochs=3", resume=True)
    run(teacher, data, tmp_path / "alone", without_teacher=True)
    run(teacher, data, tmp_path / "planned", dry_run=True)
    assert loads == [teacher]


def test_where_answers_are_missing_it_is_loaded_for_these_and_let_go(
    tmp_path: Path, make_data: Make, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, data, there = timm_folder(tmp_path), make_data(), []
    run(teacher, data, tmp_path / "first", "distill.epochs=1")
    (made,) = (tmp_path / "teacher-cache").rglob("view-0-*.safetensors")
    kept = made.read_bytes()
    made.unlink()
    opened = known.Teacher

    class Watched(opened):  # type: ignore[misc, valid-type]
        def ask(self, *args: Any, **options: Any) -> Any:
            yield from super().ask(*args, **options)
            there.append(("asked", self._module is not None))

        def let_go(self) -> None:
            super().let_go()
            there.append(("let go", self._module is not None))

    monkeypatch.setattr(known, "Teacher", Watched)
    run(teacher, data, tmp_path / "again", "distill.epochs=1")
    assert loads == [teacher, teacher]
    assert there == [("asked", True), ("let go", False)]
    assert made.read_bytes() == kept


def test_another_model_in_the_folder_is_loaded_and_asked(tmp_path: Path, make_data: Make, loads: list[Path]) -> None:
    teacher, data, lines = timm_folder(tmp_path), make_data(), list[str]()
    run(teacher, data, tmp_path / "first", "distill.epochs=1")
    weights = load_file(teacher / "model.safetensors")
    save_file({name: value + 0.01 for name, value in weights.items()}, teacher / "model.safetensors")
    run(teacher, data, tmp_path / "second", "distill.epochs=1", report=lines.append)
    config = json.loads((teacher / "config.json").read_text())
    config["model_args"]["act_layer"] = "relu"
    (teacher / "config.json").write_text(json.dumps(config))
    run(teacher, data, tmp_path / "third", "distill.epochs=1", report=lines.append)
    assert len(loads) == 3
    assert len([line for line in lines if line.startswith("the teacher is asked 16 times;")]) == 2


def test_other_options_and_a_damaged_card_load_it_too(tmp_path: Path, make_data: Make, loads: list[Path]) -> None:
    teacher, data = timm_folder(tmp_path), make_data()
    run(teacher, data, tmp_path / "first", "distill.epochs=1")
    (card,) = (tmp_path / "teacher-cache").glob("*.json")
    run(teacher, data, tmp_path / "licensed", "distill.epochs=1", licence="MIT")
    assert load_model(tmp_path / "licensed").licence == "MIT"
    run(teacher, data, tmp_path / "windowed", "distill.epochs=1", "preprocess.window16=[0, 4095]")
    assert len(loads) == 3
    good = card.read_bytes()
    for bad in (b"", b"[]", good[:-20], good.replace(b'"bright"', b'"grey"')):
        card.write_bytes(bad)
        run(teacher, data, tmp_path / "again", "distill.epochs=1", force=True)
        assert card.read_bytes() == good
    assert len(loads) == 7


def test_a_teacher_that_is_not_what_its_card_says_is_refused(tmp_path: Path) -> None:
    model = load_model(timm_folder(tmp_path))
    card, cpu = tmp_path / "card.json", torch.device("cpu")
    known.write_card(known.Teacher(model, device=cpu, card=card))
    about = known.read_card(card)
    assert about is not None
    other = load_model(tmp_path / "timm", tap="blocks.0")
    teacher = known.Teacher(about, device=cpu, card=card, load=lambda: other)
    with pytest.raises(InputError, match=r"is not the teacher that .*card\.json describes"):
        next(teacher.ask(None, None, precision="fp32"))  # type: ignore[arg-type]


def test_a_model_that_is_code_is_always_loaded(tmp_path: Path, make_data: Make, loads: list[Path], teacher: Any) -> None:
    data = make_data()
    for name in ("first", "again"):
        run(teacher, data, tmp_path / name, "distill.epochs=1")
    assert loads == [teacher, teacher]
    assert not list((tmp_path / "teacher-cache").glob("*.json"))
