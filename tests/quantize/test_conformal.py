"""The quantile in a bundle: from the labels of `calibrate`, refused before the work where it cannot be, used by the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

import edgefm
from edgefm.bundle import open_bundle
from edgefm.cli import root
from edgefm.data import load_data
from edgefm.errors import InputError
from edgefm.models import LoadedModel
from edgefm.quantize import quantize
from edgefm.quantize.conformal import check, fitted
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import Conformal, Task, make_task

from ..runtime.conftest import MakeBundle, make_bundle  # noqa: F401
from .conftest import DATA, TASK


def with_coverage(recipe: Recipe, coverage: float | None) -> Recipe:
    return replace(recipe, quantize=replace(recipe.quantize, coverage=coverage))


def test_the_largest_quantile_of_the_variants_is_the_bundles() -> None:
    margins = {"fp32": np.linspace(-4, 4, 19), "int8": np.linspace(-4, 4, 19) - 0.5}
    outputs = {name: {"logits": np.stack([np.zeros(19), margin], axis=1)} for name, margin in margins.items()}
    labels = np.ones(19, int)
    found = fitted(outputs, labels, TASK, 0.9)
    # 1 - p of ill is 1 / (1 + exp(margin)); of 19 the 18th smallest is that of the second lowest margin
    assert found == Conformal(coverage=0.9, quantile=pytest.approx(1 / (1 + np.exp(margins["int8"][1]))))


@pytest.mark.parametrize(
    ("data", "kind", "coverage", "says"),
    [
        (DATA, "multilabel", 0.9, "the task is multilabel; expected a binary or multiclass task"),
        (DATA, "embedding", 0.9, "the task is embedding"),
        (DATA, "binary", 0.999, r"labelled images; expected at least 999\. Label more images of 'calibrate'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(data: str, kind: str, coverage: float, says: str) -> None:
    labels = () if kind == "embedding" else TASK.labels
    with pytest.raises(InputError, match=says):
        check(load_data(data), make_task(kind, labels), with_coverage(Recipe(), coverage))  # type: ignore[arg-type]
    check(load_data(DATA), TASK, with_coverage(Recipe(), 0.8))


def test_data_without_labels_are_refused(unlabelled: Path) -> None:
    with pytest.raises(InputError, match="has no labels"):
        check(load_data(unlabelled), TASK, with_coverage(Recipe(), 0.8))


def test_a_bundle_of_before_has_no_quantile_and_keeps_its_bytes() -> None:
    text = b'{"kind":"binary","labels":["a","b"],"temperature":1.0,"thresholds":[0.5]}'
    task = msgspec.json.decode(text, type=Task)
    assert task.conformal is msgspec.UNSET
    assert msgspec.json.encode(task, order="sorted") == text
    with_sets = replace(task, conformal=Conformal(coverage=0.9, quantile=0.25))
    assert msgspec.json.decode(msgspec.json.encode(with_sets), type=Task) == with_sets


def test_a_bundle_with_a_quantile_answers_in_sets_and_verify_measures_them(
    model: LoadedModel, lenient: Recipe, tmp_path: Path
) -> None:
    recipe = replace(lenient, quantize=replace(lenient.quantize, engines=("onnx",), coverage=0.8))
    said: list[str] = []
    out = quantize(model, DATA, tmp_path / "model.efm", recipe=recipe, report=said.append)
    assert any(line.startswith("conformal sets of 80 % coverage hold every label") for line in said)
    with open_bundle(out) as bundle:
        conformal, card = bundle.manifest.task.conformal, bytes(bundle.view("card.md")).decode()
        assert bundle.manifest.recipe["quantize"]["coverage"] == 0.8
    assert conformal is not msgspec.UNSET
    assert conformal.coverage == 0.8
    assert "Conformal set: every label with 1 - p <=" in card
    with edgefm.Session(out) as session:
        pixels = np.zeros((64, 64), np.uint8)
        answer = session.predict(pixels)
    held = [label for label, chance in answer.probabilities.items() if 1 - chance <= conformal.quantile]
    assert answer.set == tuple(held)
    assert answer.abstain == (held != [answer.label])
    found = edgefm.verify(out, DATA, split="calibrate")
    record = found["conformal"]["onnx-int8"]
    n = found["data"]["images"]
    assert record["coverage"]["value"] >= np.ceil((n + 1) * 0.8) / n - 1e-9  # on the very images that made it
    assert set(record["subgroups"]) == {"scanner"}
    assert set(record["classes"]) == set(TASK.labels)
    assert edgefm.inspect(out)["task"]["conformal"]["coverage"] == 0.8
    (tmp_path / "a.png").write_bytes(png(pixels))
    lines = CliRunner().invoke(root(), ["run", str(out), str(tmp_path / "a.png"), "--abstain", "--json"]).stdout.splitlines()
    told = json.loads(lines[-1])
    assert told["set"] == held
    assert told["abstain"] == answer.abstain
    assert told["label"] == (None if answer.abstain else answer.label)
    assert "embedding" not in told


def test_a_teacher_does_not_hand_its_quantile_on(make_bundle: MakeBundle) -> None:  # noqa: F811
    from edgefm.models.bundle_teacher import load_bundle

    sets = replace(TASK, conformal=Conformal(coverage=0.9, quantile=0.25))
    assert load_bundle(make_bundle(task=sets, variants=("onnx-fp32",))).task == TASK


def test_to_abstain_takes_a_quantile(make_bundle: MakeBundle, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "a.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    with pytest.raises(InputError, match=r"no conformal quantile to abstain by.*quantize\.coverage"):
        edgefm.run(make_bundle(), (str(tmp_path / "a.png"),), abstain=True)


def png(pixels: np.ndarray) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
