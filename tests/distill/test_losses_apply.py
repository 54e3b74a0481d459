"""Which losses a run has: those of the recipe that can apply, and a sentence about the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.loaded import Outputs

from .conftest import GridTeacher
from .test_distill import run, terms

Make = Callable[..., Path]
TOKENS = "distill.losses.tokens=0.5"


def test_patch_tokens_are_learned_where_both_have_a_grid(tmp_path: Path, make_data: Make, grid_teacher: Any) -> None:
    lines: list[str] = []
    out = run(grid_teacher, make_data(train=16), tmp_path / "run", TOKENS, "distill.epochs=4", report=lines.append)
    assert terms(out) == {"loss_logits", "loss_features", "loss_tokens", "loss_labels"}
    losses = [json.loads(line)["loss_tokens"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    assert not any("switched off" in line for line in lines)
    student = load_model(out)
    with torch.no_grad():
        assert student.module(torch.rand(1, 1, 160, 160)).tokens is None
    assert not any("projector" in name or name.startswith("beside") for name in student.module.state_dict())


def test_a_teacher_without_a_grid_switches_the_tokens_off(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    lines: list[str] = []
    out = run(teacher, make_data(), tmp_path / "run", TOKENS, "distill.epochs=1", report=lines.append)
    assert "the teacher has no grid of features: the loss on tokens is switched off" in lines
    assert "loss_tokens" not in terms(out)


def test_a_student_without_a_grid_switches_the_tokens_off(
    tmp_path: Path, make_data: Make, grid_teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefm.models import encoder

    monkeypatch.setattr(encoder, "timm_grid", lambda model, features: None)
    lines: list[str] = []
    out = run(grid_teacher, make_data(), tmp_path / "run", TOKENS, "distill.epochs=1", report=lines.append)
    assert "the student has no grid of features: the loss on tokens is switched off" in lines
    assert "loss_tokens" not in terms(out)


def test_images_without_labels_are_learned_by_logits_and_features(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    lines: list[str] = []
    out = run(teacher, make_data(labels=None), tmp_path / "run", report=lines.append)
    assert terms(out) == {"loss_logits", "loss_features"}
    assert "data/labels.csv has no labels: the student learns from the teacher alone" in lines


def test_a_teacher_without_classifier_is_learned_by_features_and_tokens(tmp_path: Path, make_data: Make) -> None:
    out = run(Bare(), make_data(labels=None), tmp_path / "run", TOKENS)
    assert terms(out) == {"loss_features", "loss_tokens"}
    assert load_model(out).task.kind == "embedding"


class Bare(nn.Module):
    """A user's module that says nothing of labels and has a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = GridTeacher()
        self.preprocess = self.inner.preprocess

    def forward(self, x: torch.Tensor) -> Outputs:
        return self.inner(x)._replace(logits=None)  # type: ignore[no-any-return]


def test_one_class_only_in_train_teaches_nothing_by_labels(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data(train=10)
    text = data.read_text().splitlines()
    data.write_text("\n".join(line.replace("bright,train", "dark,train") for line in text) + "\n")
    lines: list[str] = []
    out = run(teacher, data, tmp_path / "run", "distill.epochs=1", report=lines.append)
    assert "all images of train that have labels have the same: the loss on labels is switched off" in lines
    assert terms(out) == {"loss_logits", "loss_features"}
    with pytest.raises(InputError, match="that have labels have the same; expected two classes"):
        run(teacher, data, tmp_path / "control", without_teacher=True)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()
    lines = data.read_text().splitlines()
    data.write_text(
        "\n".join([lines[0] + ",patient", *(f"{line},p{number % 9}" for number, line in enumerate(lines[1:]))]) + "\n"
    )
    with pytest.raises(InputError, match=r"patient 'p\d' is in train \(row \d+\) and in"):
        run(teacher, data, tmp_path / "run")
    assert teacher.asked == 0


def test_a_label_that_is_not_a_number_is_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()
    data.write_text(data.read_text().replace("3.png,bright", "3.png,NaN"))
    with pytest.raises(
        InputError, match=r"has 'NaN' in column 'label' of rows 5, 15; expected the name of a class, or nothing"
    ):
        run(teacher, data, tmp_path / "run")
