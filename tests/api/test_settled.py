"""What a run trained on is not what the next verb measures on: the cut of the data goes with the run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.api.settled import read_recipe, recorded
from edgefm.errors import InputError
from edgefm.spec.recipe import DataRecipe


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
