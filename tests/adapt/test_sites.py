"""Several adapters on one base, one for each site: each learns from its own images and becomes a run directory of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.peft_format import load_adapter

from ..models.conftest import write_timm_folder
from .runs import Make, run, weights

BY = "adapt.lora.by=site"


def with_sites(data: Path, sites: tuple[str, ...] = ("north", "south"), **rows: str) -> Path:
    """The CSV with a column `site`, in turn by pairs so that each has both labels; `rows`: r3="east" for image 3."""
    head, *lines = data.read_text().splitlines()
    found = [f"{line},{rows.get(f'r{i}', sites[i // 2 % len(sites)])}" for i, line in enumerate(lines)]
    data.write_text("\n".join([f"{head},site", *found]) + "\n")
    return data


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_each_site_becomes_a_run_directory(tmp_path: Path, make_data: Make, vit: Path, method) -> None:
    lines: list[str] = []
    out = run(vit, with_sites(make_data(val=8)), tmp_path / "run", method, BY, report=lines.append)
    assert sorted(file.name for file in out.iterdir()) == ["evaluation.json", "metrics.jsonl", "north", "south"]
    found = json.loads((out / "evaluation.json").read_text())
    assert found["by"] == "site"
    assert {name: each["images"] for name, each in found["adapters"].items()} == {
        "north": {"train": 6, "val": 4},
        "south": {"train": 6, "val": 4},
    }
    assert any("2 adapters (north, south), each of 0.00 million weights on 8 layers" in line for line in lines)
    adapters = {}
    for site in ("north", "south"):
        assert load_model(out / site).task.labels == ("bright", "dark")
        adapters[site] = load_adapter(out / site / "adapters" / site)
        own = json.loads((out / site / "evaluation.json").read_text())
        assert own["val"] == found["adapters"][site]["val"]
        assert own["adapter"]["merged_difference"] < 1e-5
    assert torch.equal(weights(out / "north")["head.weight"], weights(out / "south")["head.weight"])
    for name, (_, b) in adapters["north"].layers.items():
        assert not torch.equal(b, adapters["south"].layers[name][1])


def test_an_adapter_learns_from_its_own_images_alone(tmp_path: Path, make_data: Make, vit: Path) -> None:
    """With the classifier standing still, another site's labels change nothing."""
    found = []
    for number, flip in enumerate((False, True)):
        data = with_sites(make_data(train=16, val=0))
        if flip:  # south learns the other way round
            other = {"dark": "bright", "bright": "dark"}
            rows = [line.split(",") for line in data.read_text().splitlines()]
            rows = [[file, other[label] if site == "south" else label, split, site] for file, label, split, site in rows[1:]]
            data.write_text("\n".join(["file,label,split,site", *(",".join(row) for row in rows)]) + "\n")
        # one step: after it the classifier, which is one for all, has heard of both sites
        sets = ("data.val=0", "adapt.epochs=1", "adapt.batch=16", "adapt.warmup=0")
        out = run(vit, data, tmp_path / f"run{number}", "lora", BY, *sets)
        found.append({site: load_adapter(out / site / "adapters" / site).layers for site in ("north", "south")})
    for name, (_, b) in found[0]["north"].items():
        torch.testing.assert_close(b, found[1]["north"][name][1], rtol=1e-3, atol=1e-6)
        assert not torch.allclose(found[0]["south"][name][1], found[1]["south"][name][1], rtol=1e-3, atol=1e-6)


def test_a_site_without_validation_images_is_proved_on_what_it_learned_from(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = run(vit, with_sites(make_data(), r2="east", r3="east"), tmp_path / "run", "lora", BY)
    assert json.loads((out / "east" / "evaluation.json").read_text())["val"] == {}
    assert json.loads((out / "east" / "evaluation.json").read_text())["images"] == {"train": 2, "val": 0}


def test_the_dry_run_counts_the_adapters(tmp_path: Path, make_data: Make, vit: Path) -> None:
    lines: list[str] = []
    run(vit, with_sites(make_data()), tmp_path / "run", "lora", BY, dry_run=True, report=lines.append)
    assert any(line.startswith("lora: 2 adapters, each of 0.00 million weights on 8 layers") for line in lines)


def test_columns_and_sites_that_do_not_do_are_refused(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(
        InputError, match=r"has no column 'site' to group images by; expected one of its further columns \(none\)"
    ):
        run(vit, make_data(), out, "lora", BY)
    with pytest.raises(InputError, match=r"no column 'scanner' .*further columns \(site\)"):
        run(vit, with_sites(make_data()), out, "lora", "adapt.lora.by=scanner")
    with pytest.raises(InputError, match=r"1 images of train and val have no site, such as 3\.png"):
        run(vit, with_sites(make_data(), r3=""), out, "lora", BY)
    with pytest.raises(InputError, match="site 'east' has images in val and none in train"):
        run(vit, with_sites(make_data(), r13="east"), out, "lora", BY)
    for name in ("north/2", "..", "state", "evaluation.json"):
        with pytest.raises(InputError, match=f"site '{re.escape(name)}' cannot be a folder's name"):
            run(vit, with_sites(make_data(), (name, "zone")), out, "lora", BY)
    assert not list(tmp_path.glob("run*"))


def test_a_run_of_other_sites_is_not_taken_up(tmp_path: Path, make_data: Make, vit: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    data = with_sites(make_data())
    with pytest.raises(KeyboardInterrupt):
        run(vit, data, tmp_path / "run", "lora", BY, report=interrupt)
    with_sites(make_data(), r2="north", r3="north")
    with pytest.raises(InputError, match="sites was"):  # the hash of the data does not know groups
        run(vit, data, tmp_path / "run", "lora", BY, resume=True)


def test_blocks_that_multiply_by_their_qkvs_weight_take_several_adapters_elsewhere_only(
    tmp_path: Path, make_data: Make
) -> None:
    stated = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    beit = timm.create_model("beit_base_patch16_224", num_classes=0, **stated)
    source = write_timm_folder(tmp_path / "beit", "beit_base_patch16_224", beit, model_args=stated)
    data = with_sites(make_data(), ("A", "B"))
    with pytest.raises(InputError, match=r"Leave qkv out of adapt\.lora\.targets"):
        run(source, data, tmp_path / "out", "lora", BY)
    assert not list(tmp_path.glob("out*"))  # told before anything is begun
    run(source, data, tmp_path / "out", "lora", BY, "adapt.lora.targets=[attn.proj]", "adapt.epochs=1")
    assert (tmp_path / "out" / "A" / "adapters" / "A").is_dir()
