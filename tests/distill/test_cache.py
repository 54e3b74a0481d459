"""The teacher cache: every question once, every answer in its place, nothing damaged or foreign ever read."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefm.distill.patches import take_patches
from edgefm.distill.teacher import Teacher
from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.spec.recipe import AugmentRecipe

from .conftest import Open, files, fill, quiet

Make = Callable[..., Path]
CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("small_files")


def test_each_image_gets_its_own_answer_about_the_view_that_is_prepared(
    open_cache: Open, make_data: Make, grid_teacher: Any
) -> None:
    cache = open_cache(grid_teacher, make_data(train=10, val=4))
    asked = np.array([9, 0, 3, 4, 9])
    for view in (1, 0):
        cache.prepare(view, quiet)
        found = cache.of(asked)
        direct = Teacher(load_model(grid_teacher), device=CPU)
        views = (0, view, AugmentRecipe())
        images = cache.images
        ((_, said),) = direct.ask(images, asked, precision=cache.teacher.precision, view=views, tokens=True)
        assert said.tokens is not None
        wanted = take_patches(said.tokens, cache.questions.patches_of(asked, view))
        for name, expected in (("logits", said.logits), ("embedding", said.embedding), ("tokens", wanted)):
            torch.testing.assert_close(found[name], expected, rtol=2e-3, atol=1e-3)
    assert found["tokens"].shape == (5, 5, 3)


def test_the_images_to_validate_on_are_answered_in_float32(open_cache: Open, make_data: Make, teacher: Any) -> None:
    cache = open_cache(teacher, make_data(train=4, val=6))
    found = cache.val_outputs(quiet)
    val = np.flatnonzero(cache.images.dataset.splits == "val")
    direct = Teacher(load_model(teacher), device=CPU)
    said = [outputs for _, outputs in direct.ask(cache.images, val, precision="fp32")]
    assert found is not None
    torch.testing.assert_close(found.logits, torch.cat([each.logits for each in said if each.logits is not None]))
    assert found.tokens is None


def test_what_was_asked_once_is_never_asked_again(open_cache: Open, make_data: Make, teacher: Any) -> None:
    data = make_data(train=10, val=4)
    cache = open_cache(teacher, data)
    fill(cache)
    assert teacher.asked == 1 + 2 * 10 + 4
    cache.prepare(0, quiet)
    lines: list[str] = []
    again = open_cache(teacher, data, lines)
    fill(again)
    assert not again.teacher.here
    assert teacher.asked == 1 + 2 * 10 + 4
    assert lines == [f"the teacher is not asked: its 24 answers are in {cache.root}"]


def test_more_views_are_asked_beside_those_that_are_there(open_cache: Open, make_data: Make, teacher: Any) -> None:
    data = make_data(train=10, val=4)
    fill(open_cache(teacher, data))
    lines: list[str] = []
    teacher.asked = 0
    fill(open_cache(teacher, data, lines, views=3))
    assert teacher.asked == 10
    assert "the teacher is asked 10 times (24 are there)" in lines[0]


def test_labels_change_no_answer(open_cache: Open, make_data: Make, teacher: Any) -> None:
    fill(open_cache(teacher, make_data(train=10, val=4)))
    cache = open_cache(teacher, make_data(train=10, val=4, labelled=2, name="few.csv"))
    assert not cache.missing


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"augment": AugmentRecipe(rotate=9.0)},
        {"patches": 4},
        {"frame": 0},
        {"window16": (0.0, 4095.0)},
        {"tap": "layer"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_answers_to_other_questions_are_not_taken(
    open_cache: Open, make_data: Make, grid_teacher: Any, other: dict[str, Any]
) -> None:
    data = make_data()
    cache = open_cache(grid_teacher, data)
    fill(cache)
    held = files(cache)
    changed = open_cache(grid_teacher, data, **other)
    assert len(changed.missing) == len(held)
    changed.folder.mkdir(parents=True)
    for name, content in held.items():  # even under its very own name
        (changed.folder / name).write_bytes(content)
    changed.check()
    assert len(changed.missing) == len(held)
    fill(changed)
    assert files(cache) == held


def test_another_teacher_and_other_images_are_asked_anew(open_cache: Open, make_data: Make, teacher: Any) -> None:
    data = make_data(train=10, val=4)
    cache = open_cache(teacher, data)
    fill(cache)
    (data.parent / "3.png").write_bytes((data.parent / "4.png").read_bytes())
    assert len(open_cache(teacher, data).missing) == len(cache.questions.parts)
    with torch.no_grad():
        teacher.scale[0] += 1
    other = open_cache(teacher, data)
    assert other.home != cache.home
    assert len(other.missing) == len(cache.questions.parts)


def test_a_teacher_in_another_precision_is_another_teacher(open_cache: Open, make_data: Make, teacher: Any) -> None:
    cache = open_cache(teacher, make_data())
    before = cache.folder
    cache.questions.teacher.precision = "bf16" if cache.teacher.precision == "fp32" else "fp32"
    del cache.questions.key
    assert cache.folder != before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "of another part"])
def test_a_damaged_file_is_made_again_as_it_was(open_cache: Open, make_data: Make, teacher: Any, damage: str) -> None:
    data = make_data(train=10, val=4)
    cache = open_cache(teacher, data)
    fill(cache)
    held = files(cache)
    path = cache.folder / "view-1-00002.safetensors"
    good = path.read_bytes()
    contents = {
        "cut": good[:-1],
        "flipped": good[:-3] + bytes([good[-3] ^ 1]) + good[-2:],
        "empty": b"",
        "of another part": held["view-0-00002.safetensors"],
    }
    path.write_bytes(contents[damage])
    lines: list[str] = []
    teacher.asked = 0
    fill(open_cache(teacher, data, lines))
    assert teacher.asked == 2
    assert files(cache) == held
    assert lines[0] == f"1 damaged files in {cache.folder} are made again"


def test_a_damaged_card_is_written_again(open_cache: Open, make_data: Make, teacher: Any) -> None:
    data = make_data()
    cache = open_cache(teacher, data)
    fill(cache)
    card = cache.home / "about.json"
    good = card.read_bytes()
    card.write_bytes(good.replace(b'"embedding": 8', b'"embedding": 9'))
    again = open_cache(teacher, data)
    assert again.questions.sizes.embedding == 8
    assert not again.missing


def test_a_file_that_goes_while_it_is_needed_is_named(open_cache: Open, make_data: Make, teacher: Any) -> None:
    cache = open_cache(teacher, make_data(train=4))
    fill(cache)
    shutil.rmtree(cache.folder)
    with pytest.raises(InputError, match=r"view-0-00000\.safetensors is gone or was changed .* --resume goes on"):
        cache.prepare(0, quiet)


def test_the_teachers_memory_is_freed_once_it_has_answered_everything(
    open_cache: Open, make_data: Make, make_teacher: Any
) -> None:
    module = make_teacher()
    gone = weakref.ref(module)
    cache = open_cache(module, make_data(train=4, val=4))
    del module
    cache.begin()
    cache.val_outputs(quiet)
    cache.prepare(0, quiet)
    gc.collect()
    assert gone() is not None
    cache.prepare(1, quiet)
    assert gone() is None
    assert not cache.teacher.here
    cache.prepare(0, quiet)
    assert cache.of(np.array([1]))["logits"].shape == (1, 2)


def test_a_view_is_mapped_not_read_into_memory(open_cache: Open, make_data: Make, teacher: Any) -> None:
    cache = open_cache(teacher, make_data(train=4))
    fill(cache)
    cache.prepare(0, quiet)
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    assert "view-0-00000.safetensors" in maps
    assert "view-1-00000.safetensors" not in maps


def test_answers_beyond_float16_are_kept_right(open_cache: Open, make_data: Make, make_teacher: Any) -> None:
    module = make_teacher()
    with torch.no_grad():
        module.scale.mul_(1e6)
    cache = open_cache(module, make_data(train=8))
    cache.prepare(0, quiet)
    found = cache.of(np.arange(8))["embedding"]
    assert torch.isfinite(found).all()
    assert found.abs().max() > 1e5


def test_an_answer_that_is_no_number_is_named_with_its_image(open_cache: Open, make_data: Make, make_teacher: Any) -> None:
    module = make_teacher()
    cache = open_cache(module, make_data())
    with torch.no_grad():
        module.scale[3] = float("nan")  # in the embedding only; the logits are finite
    with pytest.raises(InputError, match=r"Teacher answers 0\.png with numbers that are not finite"):
        cache.prepare(0, quiet)
    assert not files(cache)


def test_a_disk_that_is_too_small_is_named_before_anything_is_asked(
    open_cache: Open, make_data: Make, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(teacher, make_data())
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(InputError, match=r"answers take 0\.1 MB, and the disk of .* has 0\.1 MB left\. Free some space"):
        cache.begin()
    assert teacher.asked == 1
    assert not cache.root.exists()


def test_what_is_said_about_the_disk_is_what_it_takes(open_cache: Open, make_data: Make, grid_teacher: Any) -> None:
    cache = open_cache(grid_teacher, make_data(train=10, val=4))
    said = cache.missing_bytes()
    assert said == 2 * 10 * (2 * 2 + 2 * 8 + 2 * 5 * 3 + 3 * 4) + 4 * 4 * (2 + 8)
    fill(cache)
    assert cache.missing_bytes() == 0
    headers = sum(8 + int.from_bytes(content[:8], "little") for content in files(cache).values())
    assert sum(map(len, files(cache).values())) - headers == said
