"""Blocks that were measured are kept for their card, and nothing that stands in the file can break a run."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("triton")

from edgefm.kernels.triton import attention_kl, lora, measured

CPU, CARD = torch.device("cpu"), "A Card"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured.kept.cache_clear()
    yield tmp_path / "edgefm" / "blocks"
    measured.kept.cache_clear()


def test_what_is_kept_is_found_again_for_that_card_alone(folder):
    assert measured.kept(CARD) == {}
    measured.keep(CARD, {"lora none wide": (64, 128, 32, 4, 2)})
    assert measured.kept(CARD) == {"lora none wide": (64, 128, 32, 4, 2)}
    assert measured.kept("Another") == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: "[]",
        lambda text: text.replace('"kernels"', '"other kernels"'),
        lambda text: json.dumps(json.loads(text) | {"made for": {"triton": "1.0"}}),
        lambda text: json.dumps(json.loads(text) | {"blocks": [1]}),
        lambda text: json.dumps(json.loads(text) | {"blocks": {"a": 3}}),
    ],
)
def test_a_file_that_is_damaged_or_of_other_kernels_is_as_if_it_were_not_there(folder, damage):
    path = measured.keep(CARD, {"a": (64, 64, 4, 2)})
    path.write_text(damage(path.read_text()))
    measured.kept.cache_clear()
    assert measured.kept(CARD) == {}


UNFIT = [(48, 64, 4, 2), (64, 64, 4, 99), (64, -64, 4, 2), (0, 64, 4, 2), (64, "64", 4, 2), (64.0, 64, 4, 2)]


@pytest.mark.parametrize("blocks", UNFIT)
def test_blocks_in_which_no_kernel_could_run_are_left_out(folder, blocks):
    measured.keep(CARD, {"bad": blocks, "good": (64, 64, 4, 2)})
    assert measured.kept(CARD) == {"good": (64, 64, 4, 2)}


def test_a_folder_that_cannot_be_used_keeps_nothing_and_breaks_nothing(monkeypatch):
    monkeypatch.setattr(measured, "cache_folder", lambda *_: None)
    assert measured.keep(CARD, {"a": (64, 64, 4, 2)}) is None
    assert measured.kept(CARD) == {}


def test_the_tables_decide_unless_something_was_measured():
    x = torch.empty(5, 64, dtype=torch.float16)
    fixed = lora.blocks(x, 2048, "none")
    with measured.held({lora.key(2048, "none"): (32, 32, 32, 4, 1), attention_kl.key("rows", 64, 2): (16, 16, 4, 1)}):
        assert lora.blocks(x, 2048, "none") == lora.Tile(32, 32, 32, 4, 1)
        assert lora.blocks(x.float(), 2048, "none") != lora.Tile(32, 32, 32, 4, 1)
        assert attention_kl.tile("rows", 64, 2, (9, 0), CPU) == attention_kl.Tile(16, 16, 4, 1)
        assert attention_kl.tile("rows", 128, 2, (9, 0), CPU) != attention_kl.Tile(16, 16, 4, 1)
    assert lora.blocks(x, 2048, "none") == fixed


def test_a_triton_that_pip_knows_by_another_name_is_no_error(folder, monkeypatch):
    import importlib.metadata

    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    measured._made_for.cache_clear()
    measured.keep(CARD, {"a": (64, 64, 4, 2)})
    assert measured.kept(CARD) == {"a": (64, 64, 4, 2)}


def test_a_run_keeps_the_blocks_it_began_with_also_when_there_were_none(folder, monkeypatch):
    card = torch.device("cuda")
    monkeypatch.setattr(measured, "_card", lambda device: CARD)
    measured.keep(CARD, {"a": (64, 64, 4, 2)})
    began = measured.kept_on(card)
    measured.keep(CARD, {"a": (32, 32, 4, 2), "b": (16, 16, 4, 1)})
    with measured.only(began):
        assert [measured.measured(key, card) for key in "ab"] == [(64, 64, 4, 2), None]
        with measured.held({"b": (128, 64, 4, 2)}):
            assert measured.measured("b", card) == (128, 64, 4, 2)
    with measured.only({}):
        assert measured.measured("a", card) is None
    assert measured.measured("a", card) == (32, 32, 4, 2)
    assert measured.kept_on(CPU) == {}
