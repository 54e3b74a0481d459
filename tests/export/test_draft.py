"""The trial copy of an unfinished bundle: whatever ends the work, nothing of it stays, and two processes do not share it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from msgspec import convert

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.export.draft import Draft, versions, with_recipe, with_variants
from edgefm.spec.recipe import DataRecipe, Recipe
from tests.bundle.make_format1 import ENTRIES, MANIFEST, PREPROCESS

DRAFT = Draft(
    manifest=MANIFEST,
    preprocess=PREPROCESS,
    entries={name: data for name, data in ENTRIES.items() if name != "card.md"},
)


def stay_in_a_trial(out: Path) -> int:
    """A child process that is inside the block; its number."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with DRAFT.tried(out):
                os.write(told, b"in")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 2) == b"in"
    os.close(ready)
    os.close(told)
    return child


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_killed_process_left_is_gone_after_the_next_start_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "x.efm"
    child = stay_in_a_trial(out)
    try:
        with pytest.raises(InputError, match=r"another edgefm process is writing .*x\.efm\.partial"), DRAFT.tried(out):
            pass
        assert (tmp_path / "x.efm.partial" / "trial.efm").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (tmp_path / "x.efm.partial" / "trial.efm").exists()
    with DRAFT.tried(out) as trial:
        assert trial.bundle.manifest.name == "tiny"
    assert not list(tmp_path.iterdir())


def test_a_half_written_bundle_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "x.efm.partial").write_bytes(b"PK")
    with DRAFT.tried(tmp_path / "x.efm"):
        pass
    DRAFT.write(tmp_path / "x.efm", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.efm"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_trial_that_fails_leaves_nothing_and_says_what_it_said(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error, match="stop"), DRAFT.tried(tmp_path / "x.efm"):
        raise error("stop")
    assert not list(tmp_path.iterdir())


def test_a_trial_has_no_identity_so_that_no_engine_keeps_what_it_compiles_of_it(tmp_path: Path) -> None:
    with DRAFT.tried(tmp_path / "x.efm") as trial:
        assert trial.bundle.id == ""


def test_a_draft_writes_the_card_and_the_licences_itself_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    ids = {DRAFT.write(tmp_path / f"{number}.efm", force=False) for number in range(2)}
    assert len(ids) == 1
    assert (tmp_path / "0.efm").read_bytes() == (tmp_path / "1.efm").read_bytes()
    with open_bundle(tmp_path / "0.efm") as bundle:
        assert {"card.md", "licences/ANCESTORS.md"} < set(bundle.names())


def test_other_variants_leave_the_rest_and_the_draft_itself_as_they_are() -> None:
    fewer = with_variants(DRAFT, MANIFEST.variants[:1], {"golden/more.npy": b"1"})
    assert fewer.manifest.variants == MANIFEST.variants[:1]
    assert fewer.entries == {**DRAFT.entries, "golden/more.npy": b"1"}
    assert DRAFT.manifest.variants == MANIFEST.variants


def test_a_recipe_is_carried_and_makes_the_same_bytes_each_time(tmp_path: Path) -> None:
    recipe = Recipe(data=DataRecipe(val=0.3, label="finding"))
    for number in range(2):
        with_recipe(DRAFT, recipe).write(tmp_path / f"{number}.efm", force=False)
    assert (tmp_path / "0.efm").read_bytes() == (tmp_path / "1.efm").read_bytes()
    with open_bundle(tmp_path / "0.efm") as bundle:
        assert convert(bundle.manifest.recipe, Recipe) == recipe


def test_a_library_that_is_not_installed_has_no_version() -> None:
    found = versions(("numpy", "no-such-library"))
    assert list(found) == ["numpy"]
    assert found["numpy"][0].isdigit()
