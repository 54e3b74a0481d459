"""What a model trained on is not what the next verb measures on: the cut of the data goes with runs and bundles."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgefm.api.settled import read_recipe, read_recipe_of, recorded, run_recipe
from edgefm.errors import InputError
from edgefm.spec.recipe import DataRecipe

from ..export.test_draft import DRAFT


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "edgefm.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text("seed: 7\ndata: {val: 0.3, seed: 4, label: finding}\n")
    return tmp_path


def test_a_run_says_how_its_data_were_cut_but_not_its_own_seed(run):
    found = recorded(run)
    assert found is not None
    assert found.data == DataRecipe(val=0.3, seed=4, label="finding")
    assert found.seed == 0


def bundle(path: Path, recipe: dict[str, Any]) -> Path:
    replace(DRAFT, manifest=msgspec.structs.replace(DRAFT.manifest, recipe=recipe)).write(path, force=True)
    return path


def test_a_bundle_says_it_as_its_run_did(tmp_path, caplog):
    caplog.set_level(logging.INFO, "edgefm")
    path = bundle(tmp_path / "m.efm", {"seed": 7, "data": {"val": 0.3, "seed": 4}, "quantize": {"minutes": 1}})
    for name in (path, str(path)):
        found = recorded(name)
        assert found is not None
        assert (found.data, found.seed) == (DataRecipe(val=0.3, seed=4), 0)
    assert f"the data are read as they were for {path}, with data.val=0.3, data.seed=4; --set changes it" in caplog.messages
    assert run_recipe(path) is None


def test_a_bundle_without_a_record_says_nothing_and_one_of_another_version_is_not_believed_in_silence(tmp_path, caplog):
    caplog.set_level(logging.INFO, "edgefm")
    assert recorded(bundle(tmp_path / "m.efm", {})) is None
    assert not caplog.messages
    recorded(bundle(tmp_path / "m.efm", {"data": {"tomorrow": 1}}))
    assert "not one of this version" in caplog.text


def test_teachers_whose_data_were_cut_differently_are_refused_by_name(run, tmp_path):
    path = bundle(tmp_path / "m.efm", {"data": {"val": 0.1, "seed": 4}})
    with pytest.raises(InputError) as caught:
        read_recipe_of(("resnet18", run, path), None, ())
    assert caught.value.found == (
        f"the data of {run} were read with data.label=finding, data.val=0.3, "
        f"those of {path} with data.label=label, data.val=0.1"
    )
    assert "--set data.label=finding --set data.val=0.3" in str(caught.value)


def test_teachers_whose_data_differ_are_taken_where_the_command_says_how_to_read_them(run, tmp_path):
    path = bundle(tmp_path / "m.efm", {"data": {"val": 0.1, "seed": 4}})
    found = read_recipe_of((run, path), None, ("data.label=mine", "data.val=0.2"), seed=3)
    assert (found.data, found.seed) == (DataRecipe(label="mine", val=0.2, seed=4), 3)
    with pytest.raises(InputError, match=r"data\.val=0\.3, those of .* with data\.val=0\.1"):
        read_recipe_of((run, path), None, ("data.label=mine",))


def test_teachers_that_agree_or_say_nothing_settle_it(run):
    found = read_recipe_of((object(), str(run), "resnet18", run), None, ())
    assert found.data == DataRecipe(val=0.3, seed=4, label="finding")
    assert read_recipe_of(("resnet18",), None, ("data.val=0.2",)).data == DataRecipe(val=0.2)


def test_distill_asks_every_teacher_how_its_data_were_cut(run, tmp_path):
    from edgefm.api import distill

    path = bundle(tmp_path / "m.efm", {"data": {"val": 0.1, "seed": 4, "label": "finding"}})
    with pytest.raises(InputError, match=r"data\.val=0\.3, those of .* with data\.val=0\.1"):
        distill((str(run), str(path)), "phantom:opacity?n=40&size=32", tmp_path / "out", "test_vit")


def test_the_command_goes_over_what_a_run_says(run):
    found = read_recipe(None, ("data.val=0.2",), base=recorded(str(run)), seed=3)
    assert (found.data.val, found.data.seed, found.seed) == (0.2, 4, 3)


def test_the_seed_of_a_verb_does_not_cut_the_data():
    assert read_recipe(None, (), seed=5).data == DataRecipe()


def test_other_models_say_nothing_about_data(tmp_path):
    assert recorded("resnet18") is None
    assert recorded(tmp_path) is None
    assert recorded(object()) is None


def test_a_damaged_recipe_is_named(run):
    (run / "recipe.yaml").write_text("data: [")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        recorded(run)
