"""Students: presets that say what they cost, and initial weights that a seed decides."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgefm.errors import InputError
from edgefm.models.students import PRESETS, build_student
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

BINARY = make_task("binary", ("normal", "pneumonia"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_costs_what_it_says(name: str) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):
        model = timm.create_model(preset.timm_name, num_classes=2).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert preset.weights == round(weights / 1e6, 2)
    assert preset.macs == pytest.approx(counter.get_total_flops() / 2e9, abs=0.006)


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(7)
    first = build_student("mobile", task=BINARY, preprocess=Preprocess(), seed=3)
    state = torch.random.get_rng_state()
    torch.manual_seed(8)
    again = build_student("mobile", task=BINARY, preprocess=Preprocess(), seed=3)
    other = build_student("mobile", task=BINARY, preprocess=Preprocess(), seed=4)
    assert first.sha256 == again.sha256 != other.sha256
    torch.manual_seed(7)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_student_takes_all_but_the_size_from_its_teacher() -> None:
    teacher = Preprocess(size=518, resize_to=518, mean=(0.5, 0.5, 0.5), filter="bilinear", window16=(0.0, 4095.0))
    student = build_student("tiny", task=BINARY, preprocess=teacher, seed=0)
    assert student.preprocess == Preprocess(mean=(0.5, 0.5, 0.5), filter="bilinear", window16=(0.0, 4095.0))
    cropped = build_student("mobile", task=BINARY, preprocess=Preprocess(size=448, resize_to=512), seed=0)
    assert (cropped.preprocess.size, cropped.preprocess.resize_to) == (224, 256)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "embedding"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_student_has_the_tasks_logits_and_the_contracts_channels(kind: str, channels: int) -> None:
    labels = {"binary": ("a", "b"), "multiclass": ("a", "b", "c"), "multilabel": ("a",), "embedding": ()}[kind]
    preprocess = Preprocess(channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)  # type: ignore[arg-type]
    student = build_student("test_convnext", task=make_task(kind, labels), preprocess=preprocess, seed=0)  # type: ignore[arg-type]
    side = student.preprocess.size
    with torch.no_grad():
        logits, embedding, _ = student.module(torch.rand(2, channels, side, side))
    assert embedding.ndim == 2
    assert (logits is None) if kind == "embedding" else (logits is not None and logits.shape == (2, len(labels)))


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_mambaout", "test_convnext3", "test_byobnet", "test_efficientnet_gn"]
)
def test_logits_are_those_of_timms_own_forward(name: str) -> None:
    student = build_student(name, task=BINARY, preprocess=Preprocess(), seed=0)
    x = torch.rand(2, 3, student.preprocess.size, student.preprocess.size)
    with torch.no_grad():
        torch.testing.assert_close(student.module(x).logits, student.module.model(x))


def test_an_unknown_student_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"expected one of .*vit_tiny_patch16_224"):
        build_student("vit_tiny_patch16_22", task=BINARY, preprocess=Preprocess(), seed=0)
