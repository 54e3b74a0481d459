"""`--method lora` and `qlora`: what they leave behind. What all methods share is in `test_adapt.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgefm.adapt import adapt
from edgefm.distill import distill
from edgefm.errors import InputError, MissingExtra
from edgefm.models import load_model
from edgefm.models.peft_format import load_adapter
from edgefm.settings import load_recipe

from ..models.probe_cases import clip_mlp, odd_timm, onnx, phikon_folder, rad_dino_classifier, virchow
from .runs import Make, Method, run, weights

QUICK = ["adapt.epochs=1", "adapt.views=1", "adapt.lora.rank=2", "distill.epochs=1", "distill.views=1", "distill.batch=8"]


@pytest.mark.parametrize("base", ["float", "nf4", "int8"])
def test_a_run_is_the_merged_model_and_its_adapter(tmp_path: Path, make_data: Make, vit: Path, base: str) -> None:
    lines: list[str] = []
    method: Method = "lora" if base == "float" else "qlora"
    sets = () if base == "float" else (f"adapt.lora.base={base}",)
    out = run(vit, make_data(), tmp_path / "run", method, *sets, report=lines.append)
    adapter = load_adapter(out / "adapters" / "default")
    assert (adapter.rank, adapter.base, adapter.modules) == (4, str(vit.resolve()), ("head",))
    before, after = weights(vit), weights(out)
    for name, (a, b) in adapter.layers.items():
        assert b.any(), name
        change = after[f"{name}.weight"] - before[f"{name}.weight"]
        wanted = adapter.scale * b @ a
        if base == "float":
            torch.testing.assert_close(change, wanted, rtol=1e-4, atol=1e-6)
        else:  # the merged model stands on what the quantized base was
            assert (change - wanted).abs().max() > 1e-5
    torch.testing.assert_close(adapter.whole["head.weight"], after["head.weight"], rtol=0, atol=0)
    rest = [name for name in before if name.removesuffix(".weight") not in adapter.layers]
    assert all(torch.equal(before[name], after[name]) for name in rest)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["method"] == method
    assert found["adapter"] == {
        "layers": 8,
        "weights": 2 * 4 * 32 * (4 + 2 + 5 + 5),  # blocks, rank, width, and widths in and out of each layer
        "base": base,
        "merged_difference": found["adapter"]["merged_difference"],
    }
    assert found["adapter"]["merged_difference"] < 1e-5
    said = "12 images teach an adapter of 0.00 million weights on 8 layers, rank 4, and a new classifier"
    assert any(line.startswith(said) for line in lines)


def test_it_learns(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = run(vit, make_data(train=40, val=20), tmp_path / "run", "lora", "adapt.epochs=6", "adapt.lr=3e-3")
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < history[0]["loss"]
    assert json.loads((out / "evaluation.json").read_text())["val"]["auc"] > 0.8


def test_each_method_has_a_learning_rate_of_its_own(tmp_path: Path, make_data: Make, vit: Path) -> None:
    for method, rate in (("lora", 1e-3), ("qlora", 1e-3), ("full", 1e-4)):
        recipe = load_recipe(None, ["adapt.epochs=1", "adapt.views=1", "adapt.lora.rank=2"])
        out = adapt(vit, make_data(), tmp_path / method, method=method, recipe=recipe)  # type: ignore[arg-type]
        assert load_recipe(out / "recipe.yaml").adapt.lr == rate


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("make", [phikon_folder, rad_dino_classifier, virchow, clip_mlp], ids=lambda make: make.__name__)
def test_what_it_makes_of_any_family_is_a_teacher(tmp_path: Path, make_data: Make, make, method: Method) -> None:
    data = make_data()
    out = adapt(make(tmp_path / "model"), data, tmp_path / "run", method=method, recipe=load_recipe(None, QUICK))
    assert load_model(out).task.labels == ("bright", "dark")
    assert (out / "base").is_dir()  # a classifier on top of a whole, merged model
    if make is virchow and method == "lora":
        student = distill(out, "test_vit", data, tmp_path / "student", recipe=load_recipe(None, QUICK))
        assert [each.role for each in load_model(student).ancestors] == ["teacher", "model", "data", "data"]


@pytest.mark.parametrize(
    ("make", "method"),
    [(phikon_folder, "lora"), (virchow, "lora"), (clip_mlp, "qlora"), (phikon_folder, "full")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_gradient_checkpointing_learns_the_same(tmp_path: Path, make_data: Make, make, method: Method) -> None:
    data, source, found = make_data(), make(tmp_path / "model"), []
    sets = [*QUICK, "adapt.lora.dropout=0.2"]
    for more in ([], ["adapt.checkpointing=true"]):
        out = tmp_path / f"run{len(found)}"
        adapt(source, data, out, method=method, recipe=load_recipe(None, [*sets, *more]))
        found.append(load_model(out).module.state_dict())
    torch.testing.assert_close(dict(found[0]), dict(found[1]), rtol=1e-3, atol=1e-5)


def test_dropout_and_accumulation_learn_too(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data, found = make_data(), []
    for number, sets in enumerate((("adapt.accumulate=1",), ("adapt.accumulate=3",), ("adapt.lora.dropout=0.3",))):
        out = run(vit, data, tmp_path / f"run{number}", "lora", *sets)
        found.append(load_adapter(out / "adapters" / "default").layers["blocks.0.mlp.fc2"][1])
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-4)
    assert not torch.allclose(found[0], found[2], rtol=1e-2, atol=1e-4)


def test_a_classifier_for_the_same_labels_is_kept(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data, lines = make_data(), list[str]()
    probe = run(vit, data, tmp_path / "probe")
    out = run(probe, data, tmp_path / "run", "lora", "adapt.lr=1e-9", report=lines.append)
    assert any("and the classifier it has" in line for line in lines)
    torch.testing.assert_close(weights(out)["head.weight"], weights(probe)["head.weight"], atol=1e-6, rtol=0)


def test_what_cannot_have_adapters_is_refused(tmp_path: Path, make_data: Make, vit: Path, code: str) -> None:
    data, out = make_data(), tmp_path / "run"
    with pytest.raises(InputError, match=r"is a frozen graph, whose weights cannot learn\. Use --method linear"):
        run(onnx(tmp_path / "graph"), data, out, "lora", tap="features")
    with pytest.raises(InputError, match="no layout that its changed weights could be saved in"):
        run(code, data, out, "qlora")
    with pytest.raises(InputError, match=r"expected a whole model for --method lora"):
        run(vit, data, out, "lora", tap="blocks.0")
    with pytest.raises(InputError, match="has no linear layers beside its classifier"):
        run(odd_timm(tmp_path / "bit"), data, out, "lora")
    with pytest.raises(InputError, match=r"is called q_proj; expected names, or their ends, such as blocks\.0\.attn\.qkv"):
        run(vit, data, out, "lora", "adapt.lora.targets=[q_proj]")
    with pytest.raises(InputError, match=r"adapt\.lora\.rank 64 is more than blocks\.0\.attn\.qkv"):
        run(vit, data, out, "lora", "adapt.lora.rank=64")
    with pytest.raises(InputError, match=r"adapt\.lora\.rank is 0; expected a whole number, at least 1 and at most 128"):
        run(vit, data, out, "lora", "adapt.lora.rank=0")
    assert not list(tmp_path.glob("run*"))


def test_qlora_without_bitsandbytes_says_so_before_anything_is_written(
    tmp_path: Path, make_data: Make, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("bitsandbytes", "bitsandbytes.functional"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="needs bitsandbytes"):
        run(vit, make_data(), tmp_path / "run", "qlora")
    assert not list(tmp_path.glob("run*"))
    run(vit, make_data(), tmp_path / "run", "qlora", "adapt.lora.base=int8")


def test_a_merge_that_went_wrong_leaves_no_output(
    tmp_path: Path, make_data: Make, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefm.adapt.lora_linear import LoraLinear
    from edgefm.errors import ParityError

    right = LoraLinear.merged
    monkeypatch.setattr(LoraLinear, "merged", lambda self, number=0: right(self, number) * 1.01)
    with pytest.raises(ParityError, match="answers otherwise"):
        run(vit, make_data(), tmp_path / "run", "lora")
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_method_base_or_rank_is_not_taken_up(tmp_path: Path, make_data: Make, vit: Path) -> None:
    data = make_data()

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(vit, data, tmp_path / "run", "lora", report=interrupt)
    with pytest.raises(InputError, match="method was lora and is qlora"):
        run(vit, data, tmp_path / "run", "qlora", resume=True)
    with pytest.raises(InputError, match=r"recipe\.adapt\.lora\.rank was 4 and is 2"):
        run(vit, data, tmp_path / "run", "lora", "adapt.lora.rank=2", resume=True)
    run(vit, data, tmp_path / "run", "lora", resume=True)


def test_the_adapters_folder_is_a_model_too(tmp_path: Path, make_data: Make, vit: Path) -> None:
    out = run(vit, make_data(), tmp_path / "run", "lora", "adapt.lora.alpha=8")
    merged, again = load_model(out), load_model(out / "adapters" / "default")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for one, other in zip(merged.module(x)[:2], again.module(x)[:2]):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_model_without_gradient_checkpointing_is_told() -> None:
    import timm

    from edgefm.adapt.checkpointing import checkpoint_blocks
    from edgefm.models.encoder import TimmEncoder

    with torch.device("meta"):
        inner = timm.create_model("pit_ti_224", num_classes=0)
    with pytest.raises(InputError, match=r"pit has no gradient checkpointing\. Leave adapt\.checkpointing out"):
        checkpoint_blocks(TimmEncoder(inner, architecture="pit_ti_224", arguments={}), "pit")


def test_a_base_that_lora_does_not_take_is_told(tmp_path: Path, make_data: Make, vit: Path) -> None:
    lines: list[str] = []
    run(vit, make_data(), tmp_path / "run", "lora", "adapt.lora.base=int8", "adapt.epochs=1", report=lines.append)
    assert any("adapt.lora.base is for --method qlora" in line for line in lines)
