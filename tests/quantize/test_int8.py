"""The verb: what int8 costs is shown before anything is written, and a refusal is a marked bundle and exit code 3."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefm.bundle import open_bundle
from edgefm.data import Dataset
from edgefm.errors import BundleError, GateRefused, InputError, ParityError
from edgefm.models import LoadedModel
from edgefm.quantize import int8, quantize, search, trial
from edgefm.quantize.calibrate import Calibration
from edgefm.runtime.engines import load_engine
from edgefm.runtime.golden import check_golden
from edgefm.runtime.session import Session
from edgefm.spec.recipe import QuantizeRecipe, Recipe
from edgefm.spec.task import make_task

from .conftest import DATA

AT_ONCE = Recipe(quantize=QuantizeRecipe(minutes=1e-6))  # no trial: one that refits the logits turns the sign back
FOUR = ["openvino-fp32", "onnx-fp32", "openvino-int8", "onnx-int8"]


def quiet(sentence: str) -> None:
    """Nobody reads these sentences."""


def damaged(proto: onnx.ModelProto, calibration: Calibration, **_: bool) -> onnx.ModelProto:
    """ "Int8" whose last layer has the wrong sign and size: decisions change, and no bias of it can make up for that."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    last = next(node for node in reversed(changed.graph.node) if node.op_type == "Gemm")
    for tensor in changed.graph.initializer:
        if tensor.name == last.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(-100 * numpy_helper.to_array(tensor), tensor.name))
    return changed


def test_the_bundle_holds_every_variant_with_what_it_costs(
    model: LoadedModel, lenient: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    pixels = Dataset.pixels
    monkeypatch.setattr(Dataset, "pixels", lambda self, i: (read.append(str(self.splits[i])), pixels(self, i))[1])
    out, said = tmp_path / "model.efm", list[str]()

    def report(line: str) -> None:
        said.append(line)
        assert not out.exists() or (line is said[-1] and "is written" in line)

    assert quantize(model, DATA, out, recipe=lenient, report=report) == out
    assert capfd.readouterr().out == ""
    assert set(read) == {"calibrate", "val"}
    title = next(index for index, line in enumerate(said) if line.startswith("on "))
    ways = {line.split()[0] for line in said[title + 2 : title + 7 + int8.runs_bf16()]}
    assert ways - {"openvino-bf16"} == {"fp32", *FOUR}
    assert any("8 images of the 'calibrate' split" in line for line in said[:title])
    with open_bundle(out) as bundle:
        manifest = bundle.manifest
        assert [variant.name for variant in manifest.variants] == FOUR
        for variant in manifest.variants:
            assert {"auc", "sensitivity", "specificity", "balanced_accuracy"} <= set(variant.accuracy)
            assert variant.flips is not None
            assert (variant.parity is None) == (variant.precision == "int8")
            assert variant.evidence["flips_low"] <= variant.flips <= variant.evidence["flips_high"]
        assert manifest.refused is None
        assert manifest.recipe["quantize"]["calibration_images"] == 8
        assert manifest.lineage[-1].role == "data"
        assert manifest.lineage[-1].sha256
        assert "nncf" in manifest.versions
        sizes = {variant.name: len(bundle.view(variant.graphs["encoder"].files[1])) for variant in manifest.variants}
        assert sizes["onnx-int8"] < 0.35 * sizes["onnx-fp32"]
        assert sizes["openvino-int8"] < 0.35 * sizes["openvino-fp32"]
    for name in FOUR:
        with Session(out, variant=name, threads=2) as session:
            assert session.predict(np.zeros((50, 60), np.uint8)).label in ("clear", "opacity")


def test_a_refusal_is_a_marked_bundle_and_exit_3(model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "quantize_onnx", damaged)
    monkeypatch.setattr(trial, "check_golden", lambda *_: None)  # which would find the damage before a decision is counted
    out, said = tmp_path / "model.efm", list[str]()
    with pytest.raises(GateRefused, match=r"onnx-int8: .* decisions change") as error:
        quantize(model, DATA, out, recipe=AT_ONCE, report=said.append)
    assert error.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model.efm"]
    assert any(line.lstrip().startswith("onnx-int8") for line in said)
    with open_bundle(out) as bundle:
        assert "decisions change" in bundle.manifest.refused
        assert "**Refused:**" in bytes(bundle.view("card.md")).decode()
        flips = {variant.name: variant.flips for variant in bundle.manifest.variants}
        assert error.value.findings.row("onnx-int8").flips == flips["onnx-int8"] > 0.01
        assert flips["onnx-fp32"] == 0
    with pytest.raises(BundleError, match="refused"):
        Session(out)
    with Session(out, variant="onnx-fp32", allow_refused=True, threads=2) as session:
        assert session.predict(np.zeros((50, 60), np.uint8)).label


def test_what_a_device_would_refuse_to_run_is_refused_whatever_the_gate_allows(
    model: LoadedModel, lenient: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contradicts(engine: object, bundle: object, precision: str, variant: str) -> None:
        raise ParityError("logits off by 0.4 for the golden input noise", expected="at most 0.25")

    monkeypatch.setattr(trial, "check_golden", contradicts)
    with pytest.raises(GateRefused, match=r"onnx-int8: a device would refuse it: logits off by 0\.4"):
        quantize(model, DATA, tmp_path / "model.efm", recipe=lenient, report=quiet)


def test_without_labels_flips_and_cosine_decide(
    model: LoadedModel, unlabelled: Path, lenient: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    out = quantize(model, unlabelled, tmp_path / "model.efm", recipe=lenient, report=said.append)
    assert any(line.startswith("no labels: the gate sees flipped decisions") for line in said)
    with open_bundle(out) as bundle:
        for variant in bundle.manifest.variants:
            assert set(variant.accuracy) == {"mean_cosine"}
            assert variant.flips is not None
            assert variant.bf16 is None
    monkeypatch.setattr(search, "quantize_onnx", damaged)
    with pytest.raises(GateRefused, match="decisions change"):
        quantize(model, unlabelled, tmp_path / "other.efm", recipe=AT_ONCE, report=quiet)


@pytest.mark.parametrize("source", [DATA, "unlabelled"])
def test_an_embedding_model_is_judged_by_its_directions(source: str, unlabelled: Path, lenient: Recipe, tmp_path: Path) -> None:
    from tests.export.small import build_small

    model = build_small("test_efficientnet", make_task("embedding"))
    recipe = msgspec.structs.replace(lenient, quantize=msgspec.structs.replace(lenient.quantize, engines=("onnx",)))
    out = quantize(model, unlabelled if source == "unlabelled" else source, tmp_path / "e.efm", recipe=recipe, report=quiet)
    with open_bundle(out) as bundle:
        assert [variant.name for variant in bundle.manifest.variants] == ["onnx-fp32", "onnx-int8"]
        small = bundle.manifest.variants[1]
        assert set(small.accuracy) == ({"mean_cosine"} if source == "unlabelled" else {"mean_cosine", "knn_accuracy"})
        assert small.flips is None


def test_a_plan_writes_nothing(model: LoadedModel, lenient: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    quantize(model, DATA, tmp_path / "model.efm", recipe=lenient, dry_run=True, report=said.append)
    assert not list(tmp_path.iterdir())
    assert any("minute" in line and "MB" in line and "memory" in line for line in said)
    assert any("trials for about 15 minutes more at most" in line for line in said)


@pytest.mark.parametrize(("room", "moment"), [(search, "quantize_onnx"), (int8, "measure")])
def test_ctrl_c_before_anything_was_found_leaves_nothing_behind(
    model: LoadedModel, lenient: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: ModuleType, moment: str
) -> None:
    def interrupted(*_: object, **__: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(room, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize(model, DATA, tmp_path / "model.efm", recipe=lenient, report=quiet)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from tests.export.small import build_small; from tests.quantize.conftest import DATA, TASK;"
        "from edgefm.errors import InputError; from edgefm.export import export; m = build_small('test_efficientnet', TASK);"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));\n"
        f"try: export(m, {str(tmp_path / 'model.efm')!r}, report=lambda s: None)\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert not list(tmp_path.iterdir())


def test_models_and_data_that_do_not_fit_are_refused_before_any_work(
    model: LoadedModel, lenient: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "export_onnx", None)
    out = tmp_path / "model.efm"
    other = replace(model, task=make_task("binary", ("benign", "malignant")))
    with pytest.raises(InputError, match=r"labelled clear, opacity.*benign, malignant"):
        quantize(other, DATA, out, recipe=lenient, report=quiet)
    model.module.train()
    with pytest.raises(InputError, match="training mode"):
        quantize(model, DATA, out, recipe=lenient, report=quiet)
    with pytest.raises(InputError, match="no data at"):
        quantize(replace(model, module=model.module.eval()), tmp_path / "absent.csv", out, recipe=lenient, report=quiet)
    with pytest.raises(InputError, match=r"model\.txt is no name for a bundle"):
        quantize(model, DATA, tmp_path / "model.txt", recipe=lenient, report=quiet)
    out.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        quantize(model, DATA, out, recipe=lenient, report=quiet)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_two_processes_make_the_same_bundle_up_to_the_times(root: Path, tmp_path: Path, name: str) -> None:
    digests = set()
    for folder in ("one", "two"):
        out = tmp_path / folder / "model.efm"
        code = (
            "from tests.export.small import build_small; from tests.quantize.conftest import DATA, TASK;"
            "from edgefm.quantize import quantize; from edgefm.spec.recipe import *;"
            "recipe = Recipe(quantize=QuantizeRecipe(calibration_images=8, max_drop=1.0, max_flips=1.0));"
            f"quantize(build_small({name!r}, TASK), DATA, {str(out)!r}, recipe=recipe, report=lambda s: None)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
        start = out.read_bytes().index(b"evidence/quantize.json")
        with open_bundle(out) as bundle:
            digests.add((bundle.id, hashlib.sha256(out.read_bytes()[: start - 30]).hexdigest()))
    assert len(digests) == 1


@pytest.mark.slow
def test_the_real_teacher_passes_the_default_gate_on_real_radiographs(real_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = quantize(
        real_data / "teachers" / "densenet121_cxr",
        real_data / "cxr_pneumonia" / "labels.csv",
        tmp_path / "cxr.efm",
        recipe=Recipe(quantize=QuantizeRecipe()),
        report=said.append,
    )
    print("\n".join(said))
    with open_bundle(out) as bundle:
        assert bundle.manifest.refused is None
        assert all(variant.flips <= 0.01 for variant in bundle.manifest.variants)
        assert all(variant.accuracy["auc"] > 0.99 for variant in bundle.manifest.variants)
        for variant in bundle.manifest.variants:  # a device leaves out what fails here
            engine = load_engine(variant.engine)(bundle, variant, threads=2, precision=variant.precision)
            check_golden(engine, bundle, variant.precision)
