"""The rival in torch answers as the model does, in the precision that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm.bench.contender import Started
from edgefm.errors import InputError

from .runtime import conftest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
make_bundle = conftest.make_bundle  # the runtime's fixture


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)).save(file)
    return file


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a small convnet."""
    from edgefm.models import save_run
    from edgefm.spec.recipe import Recipe

    from .export.small import build_small

    folder = tmp_path_factory.mktemp("run")
    save_run(folder, build_small("test_efficientnet", size=64, resize_to=64), Recipe(), ())
    return folder


def load(folder: object, picture: Path, precision: str, threads: int = 1):
    from edgefm.torch_contender import torch_work

    before = torch.get_num_threads()
    try:
        return torch_work(model=str(folder), precision=precision, trust_remote_code=False, image=str(picture), threads=threads)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_it_answers_as_the_model_does_in_the_precision_that_it_says(run_folder: Path, picture: Path, precision, tolerance):
    from edgefm.models import load_model
    from edgefm.runtime.decode import decode
    from edgefm.runtime.preprocess import Preprocessor

    loaded = load_model(run_folder)
    x = torch.from_numpy(Preprocessor(loaded.preprocess)(decode(picture))[None])
    with torch.no_grad():
        expected = loaded.module(x).logits.softmax(1)[0, 1].item()
    work = load(run_folder, picture, precision)
    assert work.answer().probabilities["ill"] == pytest.approx(expected, abs=tolerance)  # type: ignore[attr-defined]
    logits = work.model()["logits"]  # type: ignore[index]
    assert np.exp(logits[0, 1]) / np.exp(logits[0]).sum() == pytest.approx(expected, abs=tolerance)
    facts = work.facts()
    assert (facts["precision"], facts["version"]) == (precision, f"torch-{torch.__version__}")


def test_its_stages_are_its_answer_and_a_batch_has_so_many_images(run_folder: Path, picture: Path):
    work, value = load(run_folder, picture, "fp32"), None
    for stage in work.stages:
        value = stage(value)
    assert value.probabilities == pytest.approx(work.answer().probabilities)  # type: ignore[union-attr]
    threads = torch.get_num_threads()
    assert work.batch is not None
    assert work.batch(3, 1)()["logits"].shape == (3, 2)  # type: ignore[index]
    torch.set_num_threads(threads)


def test_a_frozen_graph_is_no_rival_in_torch(make_bundle: conftest.MakeBundle, picture: Path):
    with pytest.raises(InputError, match="does not run in torch"):
        load(make_bundle(), picture, "fp32")


@pytest.mark.parametrize(("has", "names"), [({}, ["torch fp32"]), ({"amx_bf16": True}, ["torch fp32", "torch bf16"])])
def test_bf16_is_tried_where_the_processor_has_it(monkeypatch, has, names):
    from edgefm.runtime import cpu
    from edgefm.torch_contender import torch_contenders

    monkeypatch.setattr(cpu, "cpu_features", lambda: has)
    found = torch_contenders("torch:hf-hub:owner/name", trust_remote_code=True)
    assert [each.name for each in found] == names
    assert found[0].settings == {"model": "hf-hub:owner/name", "precision": "fp32", "trust_remote_code": True}
    assert not found[0].keeps  # what torch's loaders find in the user's cache folder must stay there


def test_in_its_own_process_it_uses_the_threads_that_it_is_given(run_folder: Path, picture: Path):
    from edgefm.torch_contender import torch_contenders

    contender = torch_contenders(f"torch:{run_folder}", trust_remote_code=False)[0]
    with Started(contender, image=picture, threads=1) as started:
        assert (started.facts["threads"], started.facts["precision"]) == (1, "fp32")
        assert started.facts["source"] == "test_efficientnet"
        assert started.ask("answer") > 0
        assert started.ask("model") > 0
