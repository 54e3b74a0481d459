"""Features in shards: kept, found again, and never taken from a half-written or foreign file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from edgefm.adapt import features as room
from edgefm.adapt.features import Extraction
from edgefm.data.dataset import Dataset
from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.train.images import Images
from edgefm.train.progress import no_bar

from ..train.toys import GREY, dark_and_bright

IDENTITY = {"model": "a", "data": "b"}


class Encoder(nn.Module):
    """Three features; counts the images it was asked about."""

    preprocess = GREY

    def __init__(self, broken: float = 0.0) -> None:
        super().__init__()
        self.asked = 0
        self.broken = broken

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += len(x)
        means = x.mean(dim=(1, 2, 3))
        embedding = torch.stack([means, means.square(), torch.where(means > 0, self.broken, 1.0)], dim=1)
        return embedding[:, :1], embedding  # its logits are finite whatever the embedding is


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARD", 4)


@pytest.fixture
def dataset() -> Dataset:
    return dark_and_bright(10, 3)


def extraction(folder: Path, dataset: Dataset, encoder: nn.Module | None = None, **fields: Any) -> Extraction:
    model = load_model((encoder or Encoder()).eval())
    options = {"identity": IDENTITY, "device": torch.device("cpu"), "bar": no_bar} | fields
    return Extraction(model=model, images=Images(dataset, keep=0), folder=folder, **options)


def splits(dataset: Dataset) -> dict[str, Any]:
    return {"train": (dataset.of("train"), "fp32"), "val": (dataset.of("val"), "fp32")}


def test_features_come_in_the_order_of_the_images(tmp_path: Path, dataset: Dataset) -> None:
    found = extraction(tmp_path, dataset).features(splits(dataset))
    assert {name: rows.shape for name, rows in found.items()} == {"train": (10, 3), "val": (3, 3)}
    assert found["train"].dtype == np.float32
    brightness = [dataset.pixels(index).mean() for index in range(13)]
    assert np.argsort(np.concatenate([*found.values()])[:, 0]).tolist() == np.argsort(brightness).tolist()
    assert sorted(file.name for file in (tmp_path / "state").iterdir()) == [
        *(f"train-0000{shard}.safetensors" for shard in range(3)),
        "val-00000.safetensors",
    ]


def test_only_what_is_missing_is_computed_again(tmp_path: Path, dataset: Dataset) -> None:
    whole = extraction(tmp_path, dataset).features(splits(dataset))
    (tmp_path / "state" / "train-00001.safetensors").unlink()
    (tmp_path / "state" / "train-00001.safetensors.partial").write_bytes(b"half")  # what a killed process leaves
    encoder = Encoder()
    found = extraction(tmp_path, dataset, encoder).features(splits(dataset))
    assert encoder.asked == 4
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


@pytest.mark.parametrize("damage", ["cut", "emptied", "no identity"])
def test_a_damaged_shard_is_refused(tmp_path: Path, dataset: Dataset, damage: str) -> None:
    extraction(tmp_path, dataset).features(splits(dataset))
    path = tmp_path / "state" / "train-00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage == "cut" else b"")
    if damage == "no identity":
        path.write_bytes(whole)
        save_file(load_file(path), path)
    with pytest.raises(InputError, match=r"train-00001\.safetensors are damaged.*Start again without --resume"):
        extraction(tmp_path, dataset).features(splits(dataset))


@pytest.mark.parametrize("key", ["model", "data"])
def test_features_of_another_run_are_refused(tmp_path: Path, dataset: Dataset, key: str) -> None:
    extraction(tmp_path, dataset).features(splits(dataset))
    with pytest.raises(InputError, match=rf"belongs to another run: {key} was [ab] and is other"):
        extraction(tmp_path, dataset, identity=IDENTITY | {key: "other"}).features(splits(dataset))


def test_features_in_another_arithmetic_are_refused(tmp_path: Path, dataset: Dataset) -> None:
    extraction(tmp_path, dataset).features(splits(dataset))
    with pytest.raises(InputError, match="precision was fp32 and is bf16"):
        extraction(tmp_path, dataset).features({"train": (dataset.of("train"), "bf16")})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_named_with_the_image(tmp_path: Path, dataset: Dataset, value: float) -> None:
    brightest = dataset.names[int(np.argmax([dataset.pixels(index).mean() > 102 for index in range(10)]))]
    with pytest.raises(InputError, match=rf"Encoder gives {brightest} features that are not finite"):
        extraction(tmp_path, dataset, Encoder(broken=value)).features(splits(dataset))
    assert not list((tmp_path / "state").glob("train-00000*"))


def test_the_bar_ends_full_and_knows_the_time_left(tmp_path: Path, dataset: Dataset) -> None:
    seen: list[tuple[float, float]] = []
    extraction(tmp_path, dataset, bar=lambda share, left: seen.append((share, left))).features(splits(dataset))
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)
    assert seen[-1] == (1.0, 0.0)
    again: list[float] = []
    extraction(tmp_path, dataset, bar=lambda share, left: again.append(left)).features(splits(dataset))
    assert np.isnan(again).all()  # nothing was computed, so nothing is known


def test_a_full_disk_is_told_and_what_was_there_stays(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    real = room.write_atomically

    def fill(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise InputError(f"{path} cannot be written (No space left on device)", do="free some space")
        written.append(path)
        real(path, data)

    monkeypatch.setattr(room, "write_atomically", fill)
    with pytest.raises(InputError, match="No space left"):
        extraction(tmp_path, dataset).features(splits(dataset))
    monkeypatch.setattr(room, "write_atomically", real)
    encoder = Encoder()
    extraction(tmp_path, dataset, encoder).features(splits(dataset))
    assert encoder.asked == 13 - 8


def test_shards_say_what_they_are_of(tmp_path: Path, dataset: Dataset) -> None:
    from safetensors import safe_open

    extraction(tmp_path, dataset).features(splits(dataset))
    with safe_open(tmp_path / "state" / "val-00000.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["identity"]) == IDENTITY | {"precision": "fp32", "shard": 4}
