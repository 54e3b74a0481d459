"""Files of answers: what is written comes back, and what is damaged does not come at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgefm.distill.shard import Tensors, pack, packed, read_shard, row_bytes, unpack, write_shard
from edgefm.errors import InputError

LAYOUT = packed("logits", (2,)) | packed("tokens", (3, 4))
WHO = {"key": "a" * 64, "part": "view-0-00000", "rows": 5, "layout": LAYOUT, "whole": True}


def answers(factor: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: factor * torch.randn(5, *LAYOUT[name][1], generator=generator) for name in ("logits", "tokens")}


def written(path: Path) -> Tensors:
    tensors = {key: value for name, rows in answers().items() for key, value in pack(name, rows).items()}
    write_shard(path, tensors, key=WHO["key"], part=WHO["part"])  # type: ignore[arg-type]
    return tensors


@pytest.mark.parametrize("factor", [1.0, 1e-9, 1e5, 1e30], ids=["as usual", "tiny", "beyond float16", "huge"])
def test_answers_of_any_size_keep_eleven_bits(factor: float) -> None:
    rows = answers(factor)["tokens"]
    found = unpack(pack("tokens", rows), "tokens", torch.arange(5))
    torch.testing.assert_close(found, rows, rtol=2**-11, atol=0)


def test_what_float16_holds_exactly_comes_back_exactly() -> None:
    rows = torch.tensor([[1.0, -2.0, 0.0, 0.25], [0.0, 0.0, 0.0, 0.0], [65504.0, 1.0, 0.5, 3.0]])
    assert torch.equal(unpack(pack("x", rows), "x", torch.tensor([2, 0, 1])), rows[[2, 0, 1]])


def test_one_huge_image_does_not_make_the_others_coarse() -> None:
    rows = torch.tensor([[1e30, 1.0], [1e-6, 2e-6]])
    torch.testing.assert_close(unpack(pack("x", rows), "x", torch.tensor([1])), rows[1:], rtol=2**-11, atol=0)


def test_a_file_comes_back_mapped_and_whole(tmp_path: Path) -> None:
    tensors = written(tmp_path / "part")
    found = read_shard(tmp_path / "part", **WHO)  # type: ignore[arg-type]
    assert found is not None
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert found.keys() == tensors.keys()
    assert str(tmp_path / "part") in Path("/proc/self/maps").read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["part"]
    assert 5 * row_bytes(LAYOUT) == sum(value.numel() * value.element_size() for value in tensors.values())


def test_the_same_answers_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        written(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_no_flipped_byte_is_ever_taken_for_an_answer(tmp_path: Path) -> None:
    tensors = written(tmp_path / "part")
    good = (tmp_path / "part").read_bytes()
    refused = 0
    for place in range(len(good)):
        (tmp_path / "part").write_bytes(good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])
        found = read_shard(tmp_path / "part", **WHO)  # type: ignore[arg-type]
        assert found is None or all(torch.equal(found[name], value) for name, value in tensors.items())
        refused += found is None
    assert refused > 0.95 * len(good)  # the rest is white space in the header


@pytest.mark.parametrize("keep", [0, 7, 100, -1], ids=["empty", "in the length", "in the header", "by a byte"])
def test_a_file_that_was_cut_is_not_read_even_without_its_hash(tmp_path: Path, keep: int) -> None:
    written(tmp_path / "part")
    (tmp_path / "part").write_bytes((tmp_path / "part").read_bytes()[:keep])
    assert read_shard(tmp_path / "part", **WHO | {"whole": False}) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"key": "b" * 64},
        {"part": "view-1-00000"},
        {"rows": 4},
        {"layout": packed("logits", (2,))},
        {"layout": LAYOUT | packed("x", ())},
    ],
    ids=["key", "part", "rows", "less", "more"],
)
def test_a_file_of_something_else_is_not_read(tmp_path: Path, other: dict[str, object]) -> None:
    written(tmp_path / "part")
    assert read_shard(tmp_path / "part", **WHO | other) is None  # type: ignore[arg-type]


def test_what_is_no_shard_at_all_is_not_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    assert read_shard(tmp_path / "absent", **WHO) is None  # type: ignore[arg-type]
    save_file({"logits": np.zeros(3)}, tmp_path / "part")
    assert read_shard(tmp_path / "part", **WHO) is None  # type: ignore[arg-type]
    save_file({"logits": np.zeros(3)}, tmp_path / "part", {"edgefm": "[]"})
    assert read_shard(tmp_path / "part", **WHO) is None  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises((InputError, FileNotFoundError)):
        written(tmp_path / "absent" / "part")
