"""What a run with attention learns, keeps in its cache and says. Not the formulas (`test_attention.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timm
import torch

from edgefm.distill import distill, known
from edgefm.distill.attention import attention_loss, noted, relation_loss
from edgefm.distill.targets import TeacherTarget
from edgefm.distill.teacher import Teacher as Asked
from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.attention import AttentionEncoder
from edgefm.models.loaded import Attended, Outputs
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import LossRecipe
from edgefm.train.objective import Batch

from ..models.conftest import randomise, write_timm_folder
from .conftest import AttentiveTeacher, Open, files, fill, quiet
from .test_distill import recipe, run, terms, write_onnx_teacher
from .test_targets import MINE, ROWS

Make = Callable[..., Path]
GENERATOR = torch.Generator().manual_seed(3)
BOTH = "distill.losses={attention: 1, relation: 1}"
OFF = "shows no attention over its patches, as vision transformers of timm and transformers do: the loss on"


def test_attention_and_relations_are_learned(tmp_path: Path, make_data: Make, attentive_teacher: Any) -> None:
    data, lines = make_data(train=16), list[str]()
    sets = (BOTH, "distill.epochs=8", "distill.views=1", "distill.layers=[[-1, -1], [0, 2]]", "distill.lr=0.003")
    out = run(attentive_teacher, data, tmp_path / "run", *sets, report=lines.append)
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels", "loss_attention", "loss_relation"}
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(history[-1][name] < 0.9 * history[0][name] for name in ("loss_attention", "loss_relation"))
    how = "the mean of 4 and of 2 heads, 4 relation heads"
    said = f"2 of 3 with the student's 5 of 6, {how}; 0 of 3 with the student's 2 of 6, {how}"
    assert f"attention layers of AttentiveTeacher, counted from 0: {said}" in lines
    names = set(load_model(out).module.state_dict())
    assert names == set(load_model(run(attentive_teacher, data, tmp_path / "plain", "distill.epochs=1")).module.state_dict())


def test_the_control_arm_learns_no_attention(tmp_path: Path, make_data: Make, attentive_teacher: Any) -> None:
    out = run(attentive_teacher, make_data(), tmp_path / "run", BOTH, "distill.epochs=1", without_teacher=True)
    assert terms(out) == {"loss_labels"}


def test_a_teacher_without_classifier_teaches_attention_beside_its_embedding(tmp_path: Path, make_data: Make) -> None:
    out = run(AttentiveTeacher(labels=()), make_data(labels=None), tmp_path / "run", BOTH, "distill.epochs=1")
    assert terms(out) == {"loss_features", "loss_attention", "loss_relation"}
    assert load_model(out).task.kind == "embedding"


def test_a_student_of_other_patches_is_refused_before_anything_is_written(tmp_path: Path, make_data: Make) -> None:
    with pytest.raises(InputError, match="AttentiveTeacher attends to 5 x 5 patches, the student to 10 x 10"):
        run(AttentiveTeacher(size=80), make_data(), tmp_path / "run", BOTH)
    with pytest.raises(InputError, match="layer 9 of the teacher AttentiveTeacher, which has 3 attention layers"):
        run(AttentiveTeacher(), make_data(), tmp_path / "run", BOTH, "distill.layers=[[9, -1]]")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data"]


def test_a_convolutional_student_switches_them_off(tmp_path: Path, make_data: Make, attentive_teacher: Any) -> None:
    lines: list[str] = []
    out, settings = tmp_path / "run", recipe(BOTH, "distill.epochs=1")
    distill(attentive_teacher, "test_efficientnet", make_data(), out, recipe=settings, report=lines.append)
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels"}
    assert {f"the student {OFF} attention is switched off", f"the student {OFF} relations is switched off"} <= set(lines)
    assert "attention" not in next((tmp_path / "teacher-cache").glob("*/*/key.json")).read_text()


@pytest.mark.parametrize("kind", ["convolutions", "frozen graph"])
def test_a_teacher_that_shows_none_switches_them_off(tmp_path: Path, make_data: Make, grid_teacher: Any, kind: str) -> None:
    lines, teacher = list[str](), grid_teacher
    if kind == "frozen graph":
        teacher = tmp_path / "teacher.onnx"
        write_onnx_teacher(teacher)
        (tmp_path / "labels.json").write_text('["dark", "bright"]')
        prepare = Preprocess(channels=1, size=32, resize_to=32, mean=(0.5,), std=(0.25,))
        (tmp_path / "preprocess.json").write_bytes(msgspec.json.encode(prepare))
    out = run(teacher, make_data(), tmp_path / "run", BOTH, "distill.epochs=1", report=lines.append)
    assert {f"the teacher {OFF} attention is switched off", f"the teacher {OFF} relations is switched off"} <= set(lines)
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels"}


def test_of_several_teachers_those_with_attention_teach_it(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    out = run([teacher, AttentiveTeacher()], make_data(), tmp_path / "run", BOTH, "distill.epochs=1")
    assert {"loss_attention", "loss_relation"} <= terms(out)


def test_what_is_kept_are_the_teachers_own_and_takes_what_was_said(open_cache: Open, make_data: Make) -> None:
    teacher, names = AttentiveTeacher(), ("q2", "k2")
    lines: list[str] = []
    cache = open_cache(teacher, make_data(train=10, val=4), lines, attention=names, patches=0, views=2)
    said = cache.missing_bytes()
    per_view = 2 * 2 + 2 * 64 + 2 * 2 * 101 * 64 + 4 * 4  # logits, embedding, queries and keys of 101 tokens, four scales
    assert said == 2 * 10 * per_view + 4 * 4 * (2 + 64)
    fill(cache)
    assert f"its answers take {said / 1e6:.1f} MB" in lines[0]
    headers = sum(8 + int.from_bytes(content[:8], "little") for content in files(cache).values())
    assert sum(map(len, files(cache).values())) - headers == said
    direct = Asked(load_model(teacher), device=torch.device("cpu"))
    views = (0, 1, cache.questions.augment)
    ((_, answer),) = direct.ask(cache.images, ROWS, precision=direct.precision, view=views, attention=None)
    cache.prepare(1, quiet)
    found = cache.of(ROWS)
    assert isinstance(answer, Attended)
    assert set(found) == {"logits", "embedding", *names}
    for name in names:
        assert found[name].shape == (3, 4, 101, 16)
        torch.testing.assert_close(found[name], answer.attention[name], rtol=1e-3, atol=1e-4)


def test_other_layers_are_other_questions_and_none_are_those_of_before(open_cache: Open, make_data: Make) -> None:
    teacher, data = AttentiveTeacher(), make_data(train=4, val=4)
    asked = [open_cache(teacher, data, attention=names).questions.key for names in ((), ("q1",), ("q2",), ("q1", "k1"))]
    assert len({json.dumps(key, sort_keys=True) for key in asked}) == 4
    assert "attention" not in asked[0]  # caches that were made without it stay good


def test_sizes_from_before_there_was_attention_are_found_again(open_cache: Open, make_data: Make) -> None:
    from edgefm.distill.sizes import full_name

    data = make_data(train=4, val=4)
    cache = open_cache(AttentiveTeacher(), data)
    fill(cache)
    file = cache.home / "about.json"
    card = json.loads(file.read_text())
    del card["sizes"]["attention"]
    file.write_text(json.dumps(card | {"sha256": full_name([card["teacher"], card["sizes"]])}))
    again = open_cache(AttentiveTeacher(), data)
    assert again.questions.sizes.attention == ((4, 101, 16),) * 3
    assert not again.missing


def attentive(losses: LossRecipe, open_cache: Open, make_data: Make) -> tuple[TeacherTarget, Attended]:
    """A target of two pairs of layers, and what a student answers `ROWS`."""
    pairs = ((2, 0), (1, 1))
    cache = open_cache(AttentiveTeacher(), make_data(), attention=noted((2, 1), losses))
    made = TeacherTarget([cache], losses, [], None, kind="binary", temperature=3.0, device=torch.device("cpu"), layers=[pairs])
    made.prepare(1, quiet)
    noise = {name: torch.randn(3, 2, 101, 32, generator=GENERATOR) for name in noted((0, 1), losses)}
    return made, Attended(MINE, noise)


def test_a_batch_that_was_cut_adds_up_to_the_whole(open_cache: Open, make_data: Make) -> None:
    losses = LossRecipe(logits=0.0, features=0.0, labels=0.0, attention=2.0, relation=3.0)
    made, outputs = attentive(losses, open_cache, make_data)
    whole = made(outputs, Batch(ROWS, 1, ROWS))
    said = made.caches[0].of(ROWS)
    torch.testing.assert_close(whole["attention"], 2 * attention_loss(outputs.attention, said, made.layers[0]))
    torch.testing.assert_close(whole["relation"], 3 * relation_loss(outputs.attention, said, made.layers[0]))
    pieces = dict.fromkeys(whole, torch.zeros(()))
    for part in ([0, 1], [2]):
        piece = Attended(MINE, {name: value[part] for name, value in outputs.attention.items()})
        for name, value in made(piece, Batch(ROWS[part], 1, ROWS)).items():
            pieces[name] = pieces[name] + value * len(part) / 3
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value)


def test_another_view_has_other_attention(open_cache: Open, make_data: Make) -> None:
    losses = LossRecipe(logits=0.0, features=0.0, labels=0.0, attention=1.0)
    made, outputs = attentive(losses, open_cache, make_data)
    first = made(outputs, Batch(ROWS, 1, ROWS))["attention"]
    made.prepare(0, quiet)
    assert made(outputs, Batch(ROWS, 0, ROWS))["attention"] != first


def test_a_student_with_its_teachers_weights_loses_nothing(open_cache: Open, make_data: Make) -> None:
    teacher = AttentiveTeacher()
    losses = LossRecipe(logits=0.0, features=0.0, labels=0.0, attention=1.0, relation=1.0)
    cache = open_cache(teacher, make_data(), attention=noted((2,), losses))
    pairs = (((2, 2),),)
    made = TeacherTarget([cache], losses, [], None, kind="binary", temperature=3.0, device=torch.device("cpu"), layers=pairs)
    made.prepare(1, quiet)
    from edgefm.train.predict import predict

    learner = AttentionEncoder(load_model(teacher).module.eval(), noted((2,), losses))
    views = (0, 1, cache.questions.augment)
    ((_, outputs),) = predict(
        learner, cache.images, ROWS, cache.teacher.about.preprocess, device=torch.device("cpu"), precision="fp32", view=views
    )
    found = made(outputs, Batch(ROWS, 1, ROWS))
    assert all(abs(value.item()) < 1e-5 for value in found.values())


def test_with_all_answers_in_the_cache_a_teacher_on_disk_is_not_loaded(
    tmp_path: Path, make_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"img_size": 160, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=2, **sizes))
    config: dict[str, Any] = {"num_classes": 2, "model_args": sizes, "label_names": ["dark", "bright"]}
    size = {"input_size": [3, 160, 160]}
    folder = write_timm_folder(tmp_path / "timm", "vit_tiny_patch16_224", model, cfg=size, **config)
    data, loads = make_data(), list[Any]()

    def load(source: Any, **options: Any) -> Any:
        loads.append(source)
        return load_model(source, **options)

    monkeypatch.setattr(known, "load_model", load)
    run(folder, data, tmp_path / "first", BOTH)
    out = run(folder, data, tmp_path / "again", BOTH, "distill.epochs=1")
    assert loads == [folder]
    assert {"loss_attention", "loss_relation"} <= terms(out)


def test_a_dry_run_counts_what_attention_takes_on_disk(tmp_path: Path, make_data: Make, attentive_teacher: Any) -> None:
    lines: list[str] = []
    run(attentive_teacher, make_data(), tmp_path / "run", BOTH, dry_run=True, report=lines.append)
    size = 2 * 10 * (2 * (2 + 64 + 3 * 101 * 64) + 5 * 4) + 6 * 4 * (2 + 64)
    assert any(f"{size / 1e6:.1f} MB for the teacher's answers" in line for line in lines)


def test_outputs_with_attention_unpack_as_outputs_do() -> None:
    found = Attended(Outputs(None, torch.zeros(1, 2)), {"q0": torch.zeros(1)})
    logits, embedding, tokens = found
    assert (logits, tokens) == (None, None)
    assert embedding is found.embedding
