"""What is compared of attention, by hand; which layers; what a run with it learns, keeps and says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timm
import torch

from edgefm.distill import distill, known
from edgefm.distill.attention import attention_loss, noted, pair_layers, relation_heads, relation_loss
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


def layers(*names: str, heads: int, tokens: int, width: int) -> dict[str, torch.Tensor]:
    return {name: torch.randn(2, heads, tokens, width, generator=GENERATOR) for name in names}


def maps(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """softmax(q kᵀ / sqrt(d)) of float64 `[B, H, N, d]`."""
    weights = np.exp(np.einsum("bhid,bhjd->bhij", q, k) / np.sqrt(q.shape[3]))
    return np.asarray(weights / weights.sum(axis=3, keepdims=True))


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """The mean over images, heads and rows of the sum over columns of t log(t / s)."""
    return float((teacher * np.log(teacher / student)).sum(axis=3).mean())


def plain(answers: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in answers.items()}


def split(x: np.ndarray, heads: int) -> np.ndarray:
    """`[B, H, N, d]` laid side by side and cut again."""
    rows = np.concatenate(list(x.transpose(1, 0, 2, 3)), axis=2)
    return np.stack(np.split(rows, heads, axis=2), axis=1)


def test_maps_are_compared_head_by_head_where_both_have_as_many() -> None:
    mine, theirs = layers("q1", "k1", heads=2, tokens=5, width=4), layers("q3", "k3", heads=2, tokens=5, width=8)
    s, t = plain(mine), plain(theirs)
    expected = divergence(maps(t["q3"], t["k3"]), maps(s["q1"], s["k1"]))
    assert attention_loss(mine, theirs, ((3, 1),)).item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_maps_are_compared_where_one_has_more_heads() -> None:
    mine, theirs = layers("q0", "k0", heads=2, tokens=5, width=4), layers("q0", "k0", heads=3, tokens=5, width=4)
    s, t = (maps(each["q0"], each["k0"]).mean(axis=1, keepdims=True) for each in (plain(mine), plain(theirs)))
    assert attention_loss(mine, theirs, ((0, 0),)).item() == pytest.approx(divergence(t, s), rel=1e-5)


def test_relations_are_those_among_queries_and_among_values_in_relation_heads() -> None:
    mine, theirs = layers("q0", "v0", heads=2, tokens=5, width=12), layers("q2", "v2", heads=6, tokens=5, width=8)
    s, t = plain(mine), plain(theirs)
    assert relation_heads(48, 24) == 3
    cut = [(split(t[f"{part}2"], 3), split(s[f"{part}0"], 3)) for part in "qv"]
    expected = np.mean([divergence(maps(a, a), maps(b, b)) for a, b in cut])
    assert relation_loss(mine, theirs, ((2, 0),)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("formula", [attention_loss, relation_loss])
def test_the_loss_is_the_mean_over_the_pairs_of_layers(formula: Any) -> None:
    names = [f"{part}{layer}" for part in "qkv" for layer in (0, 1)]
    mine, theirs = layers(*names, heads=2, tokens=5, width=16), layers(*names, heads=2, tokens=5, width=16)
    single = [formula(mine, theirs, (pair,)) for pair in ((0, 1), (1, 0))]
    torch.testing.assert_close(formula(mine, theirs, ((0, 1), (1, 0))), torch.stack(single).mean())
    assert formula(mine, mine, ((0, 0), (1, 1))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("who", ["teacher", "student"])
@pytest.mark.parametrize("formula", [attention_loss, relation_loss])
def test_a_class_token_that_only_one_has_is_left_out(formula: Any, who: str) -> None:
    mine, theirs = (layers("q0", "k0", "v0", heads=2, tokens=9, width=16) for _ in range(2))
    with_class = {"teacher": theirs, "student": mine}[who]
    longer = {name: torch.cat([torch.full((2, 2, 1, 16), 9.0), value], dim=2) for name, value in with_class.items()}
    found = formula(mine, longer, ((0, 0),)) if who == "teacher" else formula(longer, theirs, ((0, 0),))
    torch.testing.assert_close(found, formula(mine, theirs, ((0, 0),)))


def test_what_a_student_computed_in_bf16_is_compared_in_float32() -> None:
    mine, theirs = (layers("q0", "k0", "v0", heads=2, tokens=5, width=16) for _ in range(2))
    half = {name: value.bfloat16() for name, value in mine.items()}
    rounded = {name: value.float() for name, value in half.items()}
    for formula in (attention_loss, relation_loss):
        found = formula(half, theirs, ((0, 0),))
        assert found.dtype == torch.float32
        assert torch.equal(found, formula(rounded, theirs, ((0, 0),)))


@pytest.mark.parametrize(
    ("teacher", "student", "heads"),
    [(768, 384, 48), (1024, 384, 64), (384, 192, 24), (1536, 192, 96), (192, 96, 12), (64, 64, 4), (81, 64, 1), (8, 8, 1)],
)
def test_relation_heads_divide_both_widths_and_are_16_wide_at_least(teacher: int, student: int, heads: int) -> None:
    assert relation_heads(teacher, student) == heads


FOUR, SIX = ((6, 197, 64),) * 4, ((3, 197, 64),) * 6


def test_layers_are_counted_from_either_end() -> None:
    assert pair_layers([(-1, -1), (0, 0), (3, -6)], FOUR, SIX, "t") == ((3, 5), (0, 0), (3, 0))


@pytest.mark.parametrize(
    ("pair", "found"),
    [
        ((4, -1), "layer 4 of the teacher big, which has 4 attention layers; expected -4 to 3"),
        ((-1, -7), "layer -7 of the student, which has 6 attention layers; expected -6 to 5"),
    ],
)
def test_a_layer_that_there_is_not_is_refused_with_the_depth(pair: tuple[int, int], found: str) -> None:
    with pytest.raises(InputError, match=found):
        pair_layers([pair], FOUR, SIX, "big")


def test_patches_that_differ_are_refused_with_what_to_take() -> None:
    with pytest.raises(InputError, match=r"big attends to 16 x 16 patches, the student to 14 x 14; .*Take a student"):
        pair_layers([(-1, -1)], ((6, 257, 64),), SIX, "big")
    assert pair_layers([(-1, -1)], ((6, 196, 64),), SIX, "big") == ((0, 5),)  # only one has a class token


def test_only_what_the_losses_need_is_noted() -> None:
    assert noted([5, 1, 5], LossRecipe(attention=1.0)) == ("q1", "k1", "q5", "k5")
    assert noted([2], LossRecipe(relation=1.0)) == ("q2", "v2")
    assert noted([2], LossRecipe(attention=1.0, relation=1.0)) == ("q2", "k2", "v2")
    assert noted([2], LossRecipe()) == ()


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
